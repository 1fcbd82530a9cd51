// Websocket to the server. The page sends JSON texts; the server sends JSON texts and frames.

const decoder = new TextDecoder();
const MAX_RETRY_MS = 3000;

export class Connection {
  /** @param {{welcome, settings, recording, error, bye, frame, lost}} handlers  one for each message type */
  constructor(handlers) {
    this.handlers = handlers;
    this.socket = null;
    this.player = null;
    this.ended = false;
    this.attempts = 0;
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
      if (typeof data === "string") this.handleText(JSON.parse(data));
      else this.drawing = this.drawing.then(() => this.handleFrame(data)).catch((error) => console.error(error));
    };
    socket.onclose = () => {
      if (socket !== this.socket) return;
      this.socket = this.player = null;
      if (this.ended) return;
      this.handlers.lost();
      this.timer = setTimeout(() => this.open(), Math.min(500 * 2 ** this.attempts++, MAX_RETRY_MS));
    };
    this.socket = socket;
  }

  handleText(message) {
    if (message.type === "welcome") {
      this.player = message.player;
      this.attempts = 0;
    } else if (message.type === "bye") {
      this.ended = true;
    }
    this.handlers[message.type]?.(message);
  }

  async handleFrame(data) {
    const length = new DataView(data).getUint16(0);
    const header = JSON.parse(decoder.decode(new Uint8Array(data, 2, length)));
    const blob = new Blob([new Uint8Array(data, 2 + length)], { type: `image/${header.format}` });
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    this.handlers.frame(header, bitmap);
    bitmap.close();
    this.send("ack", { number: header.number, timestamp: performance.now() });
  }

  send(type, fields = {}) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...fields }));
  }

  /** URL of a resource of this player on the server. */
  path(rest) {
    return new URL(`api/players/${this.player}/${rest}`, document.baseURI);
  }
}
