// The websocket to the server: JSON texts one way, JSON texts and frames the other way.

const decoder = new TextDecoder();

export class Link {
  /** @param {{welcome, settings, tape, error, bye, frame, lost}} on  what to do with each message */
  constructor(on) {
    this.on = on;
    this.socket = null;
    this.player = null;
    this.ended = false;
    this.tries = 0;
    this.drawing = Promise.resolve();
  }

  open() {
    clearTimeout(this.timer);
    this.ended = false;
    const address = new URL("ws", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      if (typeof data === "string") this.text(JSON.parse(data));
      else this.drawing = this.drawing.then(() => this.frame(data)).catch((error) => console.error(error));
    };
    socket.onclose = () => {
      if (socket !== this.socket) return;
      this.socket = this.player = null;
      if (this.ended) return;
      this.on.lost();
      this.timer = setTimeout(() => this.open(), Math.min(500 * 2 ** this.tries++, 8000));
    };
    this.socket = socket;
  }

  text(message) {
    if (message.type === "welcome") {
      this.player = message.player;
      this.tries = 0;
    } else if (message.type === "bye") {
      this.ended = true;
    }
    this.on[message.type]?.(message);
  }

  async frame(data) {
    const length = new DataView(data).getUint16(0);
    const header = JSON.parse(decoder.decode(new Uint8Array(data, 2, length)));
    const blob = new Blob([new Uint8Array(data, 2 + length)], { type: `image/${header.format}` });
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    this.on.frame(header, bitmap);
    bitmap.close();
    this.send("seen", { number: header.number, stamp: performance.now() });
  }

  send(type, fields = {}) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...fields }));
  }

  /** Address of one of this player's own pages on the server. */
  path(rest) {
    return new URL(`api/players/${this.player}/${rest}`, document.baseURI);
  }
}
