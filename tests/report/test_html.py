import copy
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from djinn.errors import UserError
from djinn.evaluate.action_effects import effects_from_frames
from djinn.evaluate.drift import drift_from_frames
from djinn.evaluate.rollouts import Examples
from djinn.report.charts import Line, line_chart
from djinn.report.html import ReportMedia, write_report
from djinn.report.markup import Html, tag

HOSTILE = "runs/<script>alert('1')</script>\"><img src=http://evil.example/x onerror=alert(2)> & co"
VOID = {"br", "hr", "img", "link", "meta", "source"}
HORIZON, CODES, SIDE = 7, 3, 16


class Page(HTMLParser):
    """Elements of a page. Parsing fails if tags do not match."""

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
        "action_entropy_bits": 1.5,
        "accuracy": 0.8,
        "majority_accuracy": 0.4,
    }
    score = {"accuracy": 0.5, "cross_entropy": 1.234, "tokens": 4096}
    prompts = rng.integers(256, size=(2, SIDE, SIDE, 3), dtype=np.uint8)
    videos = rng.integers(256, size=(2, 30, SIDE, SIDE, 3), dtype=np.uint8)
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
        "action_usage": {
            "shares": [0.5, 0.5, 0.0],
            "entropy_bits": 1.0,
            "perplexity": 2.0,
            "num_used": 2,
            "min_share": 0.02,
            "transitions": 1234,
            "collapsed": False,
        },
        "action_names": ["left", "action 1", "jump"],
        "code_table": {
            "ground_truth_actions": ["none", "left", "up"],
            "counts": [[30, 20, 0], [0, 40, 0], [0, 0, 0]],
            "labels": ["none", "left", ""],
            "overall": agreement,
            "changed": agreement,
        },
        "tokens": {
            "masked": score,
            "full_frame": score,
            "codebook": {"codes": 1024, "perplexity": 300.0, "collapsed": False},
        },
        "action_effects": {"consistency": 0.66, "prompts": 2, "frames": 3, "codes": []},
        "drift": drift_from_frames(videos, prompts, prompts).summary(),
        "long_rollouts": {
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
            "training": {"tokenizer_steps": 4776, "dynamics_steps": 13724, "val_gain": 9.5},
            "examples": [
                {"source": "level-10037", "episode": None, "start": 16, "psnr": 21.26},
                {"source": "level-10004", "episode": 2, "start": 0, "psnr": 9.74},
            ],
        },
    }


@pytest.fixture
def results(full):
    return copy.deepcopy(full)


@pytest.fixture(scope="module")
def media():
    rng = np.random.default_rng(0)

    def video(*shape):
        return rng.integers(256, size=(*shape, SIDE, SIDE, 3), dtype=np.uint8)

    actions = rng.integers(CODES, size=(2, 2, HORIZON))
    examples = Examples(video(2, HORIZON + 1), video(2, HORIZON + 1), video(2, HORIZON + 1), *actions)
    return ReportMedia(examples, effects_from_frames(video(CODES, 2, 4)), video(2, 30))


def write(tmp_path, results, media):
    path = tmp_path / "deep" / "report.html"
    write_report(path, results, media, progress=False)
    text = path.read_text(encoding="utf-8")
    return Page(text), text


@pytest.fixture(scope="module")
def whole(full, media, tmp_path_factory):
    return write(tmp_path_factory.mktemp("report"), full, media)


def test_page_with_all_parts(whole):
    page, _ = whole
    assert page.all("html") == [{"lang": "en"}]
    assert "runs/easy: evaluation report" in page.text
    assert [level for level, _ in page.headings].count("h1") == 1
    sections = {attributes["id"] for attributes in page.all("section")}
    assert sections == {link["href"][1:] for link in page.all("a")}
    assert {"overview", "horizon", "clips", "grid", "actions", "long", "drift", "tokens", "fvd", "protocol"} == sections
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
        "The 2 clips are not selected by quality: they are the first of the draw with seed 0",
        "level-10037, from frame 16: 21.3 dB; level-10004, episode 2, from frame 0: 9.7 dB",
        "12 frames are generated from one real frame",
        "18.75",
        "0.654",
        "Mean over 9 clips",
        "9 clips drawn with seed 0",
        "after 13,724 training steps",
        "perplexity of 300.0 of 1024 codes",
    ):
        assert part in page.text, part
    assert "interval 11.2 to 13.2 dB" in page.text
    assert "not measured" not in page.text
    animations = [image for image in page.all("img") if image["src"].startswith("data:image/webp")]
    assert len(animations) == 2 + 1  # two clips and the grid
    assert all(animation["decoding"] == "async" for animation in animations)
    assert "(level-10037, from frame 16: 21.3 dB)" in animations[0]["alt"]
    assert len(page.all("img")) == len(animations) + 2 * 2  # frames 1 and 25 of two roll-outs


def test_page_is_self_contained(whole):
    page, text = whole
    markup = re.sub(r"base64,[^\"]*", "", text)
    assert not re.search(r"http:|https:|//|@import|url\((?!#)", markup)
    for name, attributes in page.elements:
        assert name not in ("script", "link", "iframe", "object", "embed", "form")
        for key in ("src", "srcset"):
            assert attributes.get(key, "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
        assert not any(key.startswith("on") for key in attributes)


def test_page_is_accessible(whole):
    page, _ = whole
    assert all(image.get("alt") for image in page.all("img"))
    assert all(drawing.get("aria-label") for drawing in page.all("svg"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(level[1]) for level, _ in page.headings]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_names_and_paths_are_escaped(tmp_path, results, media):
    results["protocol"] |= {"world": HOSTILE, "dataset": HOSTILE, "split": HOSTILE, HOSTILE: HOSTILE}
    results["action_names"] = [HOSTILE] * CODES
    results["code_table"]["ground_truth_actions"] = [HOSTILE] * CODES
    results["code_table"]["labels"] = [HOSTILE] * CODES
    results["fvd_protocol"]["detector"] = HOSTILE
    results["drift"]["flags"] = [HOSTILE]
    results["protocol"]["examples"][0]["source"] = results["long_rollouts"]["protocol"] = HOSTILE
    page, text = write(tmp_path, results, media)
    assert not page.all("script")
    assert "<script" not in text
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    assert page.text.count("alert('1')") >= 10


def test_missing_parts_are_replaced_by_a_sentence(tmp_path, results, media, monkeypatch):
    # charts and animations are slow
    for name in ("html_quality.line_chart", "html_clips.line_chart", "html_parts.webp_uri"):
        monkeypatch.setattr(f"djinn.report.{name}", lambda *_, **__: tag("figure"))
    for key in results:
        page, _ = write(tmp_path, {**results, key: None}, media)
        assert len(page.all("section")) == 10, key


def test_page_without_media_or_results(tmp_path, results):
    page, _ = write(tmp_path, results, ReportMedia())
    assert not page.all("img")
    assert "No example clips were stored" in page.text
    page, _ = write(tmp_path, {}, ReportMedia())
    assert "not measured" in page.text
    assert not page.all("svg")


def test_data_without_ground_truth_actions(tmp_path, results, media):
    page, _ = write(tmp_path, {**results, "code_table": None}, media)
    assert "has no ground-truth actions" in page.text


def test_a_short_horizon_shows_its_last_frame(tmp_path, results, media):
    for key in ("delta_psnr", "delta_psnr_interval", "delta_psnr_empirical", "delta_psnr_empirical_interval"):
        results[key] = {"1": results[key]["1"], "2": results[key]["2"]}
    page, _ = write(tmp_path, results, media)
    assert "Δ2 PSNR" in page.text


def test_missing_matplotlib_names_the_extra(tmp_path, results, media, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="djinn\\[plot\\]"):
        write_report(tmp_path / "report.html", results, media)
    assert not (tmp_path / "report.html").exists()


def test_charts_use_the_colors_of_the_page():
    text = line_chart("one", "a & b", [Line("<x>", [1.0, 2.0], "inferred")], x_label="frame", threshold=1.5)
    assert "var(--inferred)" in text
    assert "http" not in text
    assert "#0" not in text
    page = Page(text)
    assert page.all("svg")[0]["aria-label"] == "a & b, by frame. <x>: first 1, last 2"
    assert all(i["id"].startswith("one-") for _, i in page.elements if "id" in i)


def test_plain_text_is_escaped():
    assert tag("p", "<b>", tag("b", "&"), class_='a"b', hidden=True, id=None) == (
        '<p class="a&quot;b" hidden>&lt;b&gt;<b>&amp;</b></p>'
    )
    assert tag("img", alt="") == '<img alt="">'
    assert isinstance(tag("p"), Html)


@pytest.mark.slow
def test_page_in_a_browser(tmp_path, results, media):
    """The page fits a desktop and a phone screen, and every image loads."""
    chrome = pytest.importorskip("play.chrome")
    if chrome.PATH is None:
        pytest.skip("needs Chromium")
    write_report(tmp_path / "report.html", results, media)
    with chrome.chromium() as browser:
        tab = browser.tab()
        for width, height, phone in ((1280, 800, False), (390, 844, True)):
            tab.size(width, height, phone=phone)
            tab.open((tmp_path / "report.html").as_uri())
            tab.js("for (const image of document.images) image.loading = 'eager'")
            assert tab.js("document.documentElement.scrollWidth") <= width
            assert tab.wait("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert tab.errors() == []
        tab.close()


def test_collapse_is_shown_as_a_warning(tmp_path, results, media):
    results["action_usage"] |= {"collapsed": True, "perplexity": 1.0}
    results["tokens"]["codebook"] |= {"collapsed": True, "perplexity": 1.0}
    results["tokens"]["full_frame"] |= {"accuracy": 1.0, "cross_entropy": 0.0}
    page, _ = write(tmp_path, results, media)
    assert page.text.count("WARNING: the latent actions have collapsed") == 1
    assert page.text.count("WARNING: the tokenizer has collapsed") == 2  # overview and section
    assert "100.0 %" not in page.text.partition("Prediction of tokens")[2]
    # the card of controllability is n/a
    assert "12.2 dB" not in page.text.partition("Quality by horizon")[0]


def test_actions_are_numbered_from_0_with_their_names(whole):
    page, _ = whole
    assert "0 left" in page.text and "2 jump" in page.text
    assert "action 1" not in page.text  # unnamed: the code alone


def test_metrics_without_a_section_are_shown_as_text(tmp_path, results):
    media = ReportMedia(other={"flicker": ["flicker: 1.50 grey levels", "real <clips>: 1.25"]})
    page, _ = write(tmp_path, results, media)
    assert "Other metrics" in page.text
    assert "flicker: 1.50 grey levels real <clips>: 1.25" in page.text
    assert [section["id"] for section in page.all("section")][-2:] == ["other", "protocol"]
