import copy
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from djinn.errors import UserError
from djinn.evaluate.action_effects import effects_of
from djinn.evaluate.clips import Examples
from djinn.evaluate.drift import drift_of
from djinn.report.charts import Line, line_chart
from djinn.report.html import ReportPictures, write_report
from djinn.report.markup import Html, tag

HOSTILE = "runs/<script>alert('1')</script>\"><img src=http://evil.example/x onerror=alert(2)> & co"
VOID = {"br", "hr", "img", "link", "meta", "source"}
HORIZON, CODES, SIDE = 7, 3, 16


class Page(HTMLParser):
    """A page's elements; it fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words, self.headings = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append((self.open[-1], data))

    def all(self, name):
        return [attributes for found, attributes in self.elements if found == name]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def full():
    rng = np.random.default_rng(0)
    curve = {"psnr": rng.random(HORIZON).tolist(), "ssim": rng.random(HORIZON).tolist()}
    by_time = {str(t): 8.25 + t for t in range(1, HORIZON + 1)}
    agreement = {
        "transitions": 90,
        "mutual_information_bits": 1.1,
        "move_entropy_bits": 1.5,
        "accuracy": 0.8,
        "majority": 0.4,
    }
    score = {"accuracy": 0.5, "cross_entropy": 1.234, "tokens": 4096}
    prompts = rng.integers(256, size=(2, SIDE, SIDE, 3), dtype=np.uint8)
    games = rng.integers(256, size=(2, 30, SIDE, SIDE, 3), dtype=np.uint8)
    return {
        "tokenizer_psnr": 28.04,
        "tokenizer_ssim": 0.91,
        "rollout_psnr": 22.31,
        "rollout_ssim": 0.777,
        "rollout": {"inferred": curve, "random": curve, "repeat": curve},
        "delta_psnr": by_time,
        "delta_psnr_interval": {t: [v - 1, v + 1] for t, v in by_time.items()},
        "delta_psnr_empirical": by_time,
        "delta_psnr_empirical_interval": {t: [v - 1, v + 1] for t, v in by_time.items()},
        "code_use": {
            "shares": [0.5, 0.5, 0.0],
            "entropy_bits": 1.0,
            "perplexity": 2.0,
            "used": 2,
            "used_from": 0.02,
            "transitions": 1234,
        },
        "code_names": ["left", "action 1", "jump"],
        "code_table": {
            "moves": ["none", "left", "up"],
            "counts": [[30, 20, 0], [0, 40, 0], [0, 0, 0]],
            "reading": ["none", "left", ""],
            "overall": agreement,
            "changed": agreement,
        },
        "tokens": {"masked": score, "full_frame": score},
        "effects": {"consistency": 0.66, "prompts": 2, "frames": 3, "codes": []},
        "drift": drift_of(games, prompts, prompts).summary(),
        "long": {
            "frames": 12,
            "clips": 9,
            "psnr": {"1": 24.5, "10": 19.25, "12": 18.75},
            "ssim": {"1": 0.9, "10": 0.7, "12": 0.654},
            "random_psnr": {"1": 20.5, "10": 15.5, "12": 14.5},
            "repeat_psnr": {"1": 22.5, "10": 12.5, "12": 11.25},
            **{f"{key}_curve": [20.0 - t for t in range(12)] for key in ("psnr", "ssim", "random_psnr", "repeat_psnr")},
            "protocol": "9 clips drawn with seed 0",
        },
        "fvd": 321.4,
        "fvd_protocol": {"detector": {"sha256": "abc123"}, "clips": 64, "warnings": ["64 clips are few"]},
        "random_frechet": 0.123,
        "protocol": {
            "world": "runs/easy",
            "dataset": "data/easy",
            "split": "test",
            "clips": 64,
            "prompt_frames": 1,
            "horizon": HORIZON,
            "sampler": {"steps": 4, "temperature": 0.0},
            "seed": 0,
            "shown": [
                {"source": "level-10037", "episode": None, "start": 16, "psnr": 21.26},
                {"source": "level-10004", "episode": 2, "start": 0, "psnr": 9.74},
            ],
        },
    }


@pytest.fixture
def figures(full):
    return copy.deepcopy(full)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)

    def video(*shape):
        return rng.integers(256, size=(*shape, SIDE, SIDE, 3), dtype=np.uint8)

    actions = rng.integers(CODES, size=(2, 2, HORIZON))
    shown = Examples(video(2, HORIZON + 1), video(2, HORIZON + 1), video(2, HORIZON + 1), *actions)
    return ReportPictures(shown, effects_of(video(CODES, 2, 4)), video(2, 30))


def written(tmp_path, figures, pictures):
    path = tmp_path / "deep" / "report.html"
    write_report(path, figures, pictures, progress=False)
    text = path.read_text(encoding="utf-8")
    return Page(text), text


@pytest.fixture(scope="module")
def whole(full, pictures, tmp_path_factory):
    return written(tmp_path_factory.mktemp("report"), full, pictures)


def test_the_whole_page(whole):
    page, _ = whole
    assert page.all("html") == [{"lang": "en"}]
    assert "runs/easy: report of a world" in page.text
    assert [level for level, _ in page.headings].count("h1") == 1
    sections = {attributes["id"] for attributes in page.all("section")}
    assert sections == {link["href"][1:] for link in page.all("a")}
    assert {"figures", "horizon", "clips", "grid", "actions", "long", "drift", "tokens", "fvd", "protocol"} == sections
    for part in (
        "12.2 dB",
        "22.3 dB",
        "0.777",
        "28.0 dB",
        "2 of 3",
        "0.66",
        "321",
        "1,234 transitions",
        "abc123",
        "80.0 %",
        "None of these 2 was picked: they are the first of the clips drawn with seed 0",
        "level-10037, from frame 16: 21.3 dB; level-10004, episode 2, from frame 0: 9.7 dB",  # in the protocol
        "12 frames in a row",
        "18.75",
        "0.654",
        "Mean over 9 clips",
        "9 clips drawn with seed 0",
    ):
        assert part in page.text, part
    assert "interval 11.2 to 13.2 dB" in page.text
    assert "not measured" not in page.text
    films = [image for image in page.all("img") if image["src"].startswith("data:image/webp")]
    assert len(films) == 2 + 1  # two clips and the grid
    assert all(film["decoding"] == "async" for film in films)
    assert "(level-10037, from frame 16: 21.3 dB)" in films[0]["alt"]
    assert len(page.all("img")) == len(films) + 2 * 2  # frames 1 and 25 of two games


def test_it_needs_nothing_else(whole):
    page, text = whole
    words = re.sub(r"base64,[^\"]*", "", text)
    assert not re.search(r"http:|https:|//|@import|url\((?!#)", words)
    for name, attributes in page.elements:
        assert name not in ("script", "link", "iframe", "object", "embed", "form")
        for key in ("src", "srcset"):
            assert attributes.get(key, "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
        assert not any(key.startswith("on") for key in attributes)


def test_it_can_be_read_without_seeing_it(whole):
    page, _ = whole
    assert all(image.get("alt") for image in page.all("img"))
    assert all(drawing.get("aria-label") for drawing in page.all("svg"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(level[1]) for level, _ in page.headings]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_names_from_outside_are_text(tmp_path, figures, pictures):
    figures["protocol"] |= {"world": HOSTILE, "dataset": HOSTILE, "split": HOSTILE, HOSTILE: HOSTILE}
    figures["code_names"] = [HOSTILE] * CODES
    figures["code_table"]["moves"] = [HOSTILE] * CODES
    figures["code_table"]["reading"] = [HOSTILE] * CODES
    figures["fvd_protocol"]["detector"] = HOSTILE
    figures["drift"]["flags"] = [HOSTILE]
    figures["protocol"]["shown"][0]["source"] = figures["long"]["protocol"] = HOSTILE
    page, text = written(tmp_path, figures, pictures)
    assert not page.all("script")
    assert "<script" not in text
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    assert page.text.count("alert('1')") >= 10


def test_a_part_that_is_missing_is_no_error(tmp_path, figures, pictures, monkeypatch):
    for name in ("line_chart", "film"):  # which take long
        monkeypatch.setattr(f"djinn.report.html_quality.{name}", lambda *_, **__: tag("figure"))
    for key in figures:
        page, _ = written(tmp_path, {**figures, key: None}, pictures)
        assert len(page.all("section")) == 10, key


def test_without_pictures_or_figures(tmp_path, figures):
    page, _ = written(tmp_path, figures, ReportPictures())
    assert not page.all("img")
    assert "No clips were kept" in page.text
    page, _ = written(tmp_path, {}, ReportPictures())
    assert "not measured" in page.text
    assert not page.all("svg")


def test_a_world_whose_data_has_no_true_actions(tmp_path, figures, pictures):
    page, _ = written(tmp_path, {**figures, "code_table": None}, pictures)
    assert "does not say what the player really did" in page.text


def test_a_short_horizon_shows_its_last_frame(tmp_path, figures, pictures):
    for key in ("delta_psnr", "delta_psnr_interval", "delta_psnr_empirical", "delta_psnr_empirical_interval"):
        figures[key] = {"1": figures[key]["1"], "2": figures[key]["2"]}
    page, _ = written(tmp_path, figures, pictures)
    assert "Δ2 PSNR" in page.text


def test_without_matplotlib_the_extra_is_named(tmp_path, figures, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="djinn\\[plot\\]"):
        write_report(tmp_path / "report.html", figures, pictures)
    assert not (tmp_path / "report.html").exists()


def test_charts_take_the_colours_of_the_page():
    text = line_chart("one", "a & b", [Line("<x>", [1.0, 2.0], "inferred")], across="frame", at=1.5)
    assert "var(--inferred)" in text
    assert "http" not in text
    assert "#0" not in text
    page = Page(text)
    assert page.all("svg")[0]["aria-label"] == "a & b, by frame. <x>: 1 at first, 2 at last"
    assert all(i["id"].startswith("one-") for _, i in page.elements if "id" in i)


def test_markup_escapes_all_but_markup():
    assert tag("p", "<b>", tag("b", "&"), class_='a"b', hidden=True, id=None) == (
        '<p class="a&quot;b" hidden>&lt;b&gt;<b>&amp;</b></p>'
    )
    assert tag("img", alt="") == '<img alt="">'
    assert isinstance(tag("p"), Html)


@pytest.mark.slow
def test_in_a_browser(tmp_path, figures, pictures):
    """Nothing is wider than a desk or a phone, and every picture can be seen."""
    chrome = pytest.importorskip("play.chrome")
    if chrome.PATH is None:
        pytest.skip("needs Chromium")
    write_report(tmp_path / "report.html", figures, pictures)
    with chrome.chromium() as browser:
        tab = browser.tab()
        for width, height, phone in ((1280, 800, False), (390, 844, True)):
            tab.size(width, height, phone=phone)
            tab.open((tmp_path / "report.html").as_uri())
            tab.js("for (const image of document.images) image.loading = 'eager'")  # without scrolling to them
            assert tab.js("document.documentElement.scrollWidth") <= width
            assert tab.wait("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert tab.complaints() == []
        tab.close()
