"""The page of a result: what it holds, read as a file, and what it does, in a headless browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from planted import LETTERS, distances, planted_scores

from fastism.report import write_report

NASTY = "</script><b id=bold>bold</b><script>window.hacked = 1</script> & \"'"


class Page(HTMLParser):
    """A page as a browser reads it: scripts by id or type, and every element's attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.elements: list[tuple[str, dict]] = []
        self.styles, self.title, self._inside = "", "", ("", "")
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.elements.append((tag, given))
        self._inside = (tag, given.get("id") or "program")
        if tag == "script":
            self.scripts[self._inside[1]] = ""

    def handle_endtag(self, tag):
        self._inside = ("", "")

    def handle_data(self, data):
        tag, key = self._inside
        if tag == "script":
            self.scripts[key] += data
        elif tag == "style":
            self.styles += data
        elif tag == "title":
            self.title += data

    @property
    def facts(self) -> dict:
        return json.loads(self.scripts["facts"])

    def map(self, index: int, target: int) -> np.ndarray:
        facts = self.facts
        kind = "<f4" if facts["precision"] == "float32" else "<i2"
        values = np.frombuffer(base64.b64decode(self.scripts[f"map-{index}-{target}"]), kind)
        return values.reshape(facts["positions"], -1) * facts["sequences"][index]["scale"][target]


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scores():
    """14 sequences of 150, positions 10 to 140 mutated; the last has a name that tries to leave its place."""
    made = planted_scores(14, 150, margin=10)
    return replace(made, names=[*made.names[:-1], NASTY])


# ---- what is written


def test_maps_are_the_result_in_float32(scores, tmp_path):
    summary = write_report(tmp_path / "page.html", scores)
    page = read(tmp_path / "page.html")
    assert (summary.shown, summary.total, summary.size) == (14, 14, (tmp_path / "page.html").stat().st_size)
    assert "14 of 14 sequences" in str(summary)
    facts = page.facts
    assert facts["targets"] == ["CTCF", "RAD21"]
    assert facts["attributes"] == scores.attributes
    for n, one in enumerate(facts["sequences"]):
        for target in (0, 1):
            np.testing.assert_array_equal(page.map(n, target), scores.differences[n, :, :, target])
            heights = scores.attributions(target)[n].sum(-1)
            assert one["high"][target] == pytest.approx(heights.max())
            assert one["low"][target] == pytest.approx(heights.min())
            assert one["reach"][target] == pytest.approx(np.abs(scores.differences[n, ..., target]).max())
        region = scores.regions[n]
        assert one["region"] == [region.chrom, region.start, region.end, region.strand]
        assert one["reference"] == pytest.approx(list(scores.reference[n]))
        spelt = "".join(LETTERS[int(x.argmax())] if x.any() else "N" for x in scores.mutated[n])
        assert one["letters"] == spelt
    assert "N" in facts["sequences"][4]["letters"]


def test_int16_is_off_by_half_a_step_at_most(scores, tmp_path):
    large = write_report(tmp_path / "large.html", scores)
    small = write_report(tmp_path / "small.html", scores, precision="int16")
    assert small.size < large.size
    page = read(tmp_path / "small.html")
    for n, one in enumerate(page.facts["sequences"]):
        step = one["scale"][0]
        assert step == pytest.approx(np.abs(scores.differences[n, ..., 0]).max() / 32767)
        assert np.abs(page.map(n, 0) - scores.differences[n, ..., 0]).max() <= 0.5001 * step


def test_of_many_sequences_those_with_the_largest_attributions_are_shown(scores, tmp_path):
    summary = write_report(tmp_path / "page.html", scores, max_sequences=3, targets=["RAD21"])
    effects = np.abs(scores.attributions("RAD21")).max((1, 2))
    page = read(tmp_path / "page.html")
    assert [one["row"] for one in page.facts["sequences"]] == sorted(np.argsort(-effects)[:3].tolist())
    assert (page.facts["total"], page.facts["targets"]) == (14, ["RAD21"])
    assert "3 of 14 sequences with the largest attributions" in str(summary)
    for n, one in enumerate(page.facts["sequences"]):
        np.testing.assert_array_equal(page.map(n, 0), scores.differences[one["row"], :, :, 1])


def test_of_many_targets_the_strongest_are_shown(scores, tmp_path, monkeypatch):
    """The strongest of all by default where the page would be large, and the page opens on the strongest of them."""
    weights = np.array([0.2, 0.5, 4.0, 0.1, 2.0], np.float32)
    many = replace(
        scores,
        differences=scores.differences[..., :1] * weights,
        reference=np.tile(np.arange(5.0), (14, 1)),
        targets=list("abcde"),
    )
    path = tmp_path / "page.html"
    summary = write_report(path, many, max_targets=2)
    assert (summary.targets, summary.asked) == (2, 5)
    assert "the 2 strongest of 5 targets" in str(summary)
    facts = read(path).facts
    assert (facts["targets"], facts["asked"], facts["opened"]) == (["c", "e"], 5, 0)
    np.testing.assert_array_equal(read(path).map(3, 1), many.differences[3, :, :, 4])
    assert facts["sequences"][0]["reference"] == [2, 4]

    assert write_report(path, many).targets == 5, "a small page has room for all"
    monkeypatch.setattr("fastism.report.page.LARGE", 0.1)
    monkeypatch.setattr("fastism.report.page.FEW", 3)
    assert write_report(path, many).targets == 3
    assert read(path).facts["targets"] == ["b", "c", "e"]
    assert read(path).facts["opened"] == 1
    assert write_report(path, many, max_targets=4).targets == 4
    assert write_report(path, many, targets=list("abde")).targets == 4, "who names targets gets them"


def test_distances_are_important_where_they_are_large(scores, tmp_path):
    far = distances(scores)
    write_report(tmp_path / "page.html", far)
    facts = read(tmp_path / "page.html").facts
    assert facts["signed"] is False
    sums = far.differences[..., 0].sum(-1) * far.mask / 4
    for n, one in enumerate(facts["sequences"]):
        assert one["high"][0] == pytest.approx(sums[n].max())
        assert one["low"][0] == 0


def test_a_result_on_disk_is_read_in_batches(tmp_path):
    made = planted_scores(150, 40, targets=1)

    class Stored:
        """An array that can be sliced along its first axis only, and knows the longest slice."""

        def __init__(self, array):
            self.array, self.shape, self.longest = array, array.shape, 0

        def __getitem__(self, rows):
            assert isinstance(rows, slice)
            found = self.array[rows]
            self.longest = max(self.longest, len(found))
            return found

    stored = {key: Stored(getattr(made, key)) for key in ("sequences", "differences", "reference")}
    write_report(tmp_path / "disk.html", replace(made, **stored), max_sequences=100)
    write_report(tmp_path / "memory.html", made, max_sequences=100)
    assert (tmp_path / "disk.html").read_bytes() == (tmp_path / "memory.html").read_bytes()
    assert max(array.longest for array in stored.values()) <= 64


def test_names_and_titles_stay_text(scores, tmp_path):
    nasty = replace(
        scores, attributes={"note": NASTY, NASTY: [1, np.float32(2.5), float("nan"), None]}, targets=[NASTY, "b"]
    )
    write_report(tmp_path / "page.html", nasty, title=NASTY)
    page = read(tmp_path / "page.html")
    assert page.title == NASTY
    assert page.facts["sequences"][-1]["name"] == NASTY
    assert page.facts["targets"][0] == NASTY
    assert page.facts["attributes"] == {"note": NASTY, NASTY: [1, 2.5, None, None]}
    assert set(page.scripts) == {"facts", "program", *(f"map-{n}-{t}" for n in range(14) for t in (0, 1))}
    assert "b" not in {tag for tag, _ in page.elements}


def test_the_page_needs_nothing_else_and_runs_nothing_else(scores, tmp_path):
    write_report(tmp_path / "page.html", scores)
    page = read(tmp_path / "page.html")
    for _, given in page.elements:
        assert not given.get("src")
        assert given.get("href", "#")[:5] in ("#", "#figu", "data:")
    assert "@import" not in page.styles
    assert "url(" not in page.styles
    (policy,) = [given["content"] for _, given in page.elements if given.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    for kind, text in (("script", page.scripts["program"]), ("style", page.styles)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_values_that_are_no_numbers_are_kept_as_such(scores, tmp_path):
    broken = scores.differences.copy()
    broken[0, 7, :, 0] = np.nan
    broken = replace(scores, differences=broken)
    write_report(tmp_path / "page.html", broken)
    page = read(tmp_path / "page.html")
    assert np.isnan(page.map(0, 0)[7]).all()
    assert np.isfinite(page.facts["sequences"][0]["reach"][0])
    write_report(tmp_path / "page.html", broken, precision="int16")
    step = page.facts["sequences"][0]["reach"][0] / 32767
    assert read(tmp_path / "page.html").map(0, 0)[7] == pytest.approx(-32768 * step)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_megabytes": 0.025}, r"hold 0.1 MB for 14 sequences of 130 .*max_sequences=4, precision='int16', fewer"),
        ({"precision": "float16"}, "precision is 'float16'; 'float32' or 'int16' is accepted"),
        ({"rule": "mean5"}, "rule is 'mean5'; 'mean4' or 'mean3' is accepted"),
        ({"palette": "grey"}, "palette is 'grey'; 'default' or 'colourblind' is accepted"),
        ({"targets": ["MYC"]}, "target is 'MYC'"),
        ({"targets": []}, "0 targets and max_sequences=500 shows nothing"),
        ({"max_sequences": 0}, "max_sequences=0 shows nothing"),
        ({"max_targets": 0}, "max_targets is 0; 1 or more is accepted"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_leaves_nothing(scores, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / "page.html", scores, **options)
    assert not list(tmp_path.iterdir())


def test_a_result_of_no_sequences_is_refused(scores, tmp_path):
    with pytest.raises(ValueError, match="A report of 0 sequences"):
        write_report(tmp_path / "page.html", scores[:0])


def test_the_page_that_is_there_stays_when_writing_fails(scores, tmp_path, monkeypatch):
    write_report(tmp_path / "page.html", scores[:1])
    before = (tmp_path / "page.html").read_bytes()

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("fastism.report.page.encoded", broken)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path / "page.html", scores)
    assert (tmp_path / "page.html").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder_is_named(scores, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none/page\.html: the folder .*none does not exist; create it first"):
        write_report(tmp_path / "none" / "page.html", scores)


# ---- what the page does

LEFT, RIGHT = 62, 84  # margins of the figure, as figure.js has them


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    for flag in f"{flags} disable-component-update disable-sync window-size=1280,900".split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def address(scores, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "page.html"
    write_report(path, scores)
    return path.as_uri()


class Reader:
    """Somebody who reads the page."""

    def __init__(self, browser, address: str, width: int = 1280, dark: bool = False) -> None:
        self.browser = browser
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get_log("browser")
        browser.get("about:blank")
        browser.get(address)
        self.settle()

    def script(self, text: str, *arguments):
        return self.browser.execute_script(text, *arguments)

    def settle(self) -> None:
        wait = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        self.browser.execute_async_script(wait)

    def element(self, identity: str):
        return self.browser.find_element("id", identity)

    def text(self, selector: str) -> str:
        return self.script("return document.querySelector(arguments[0]).textContent", selector)

    def actions(self):
        from selenium.webdriver.common.action_chains import ActionChains

        return ActionChains(self.browser, duration=0)

    def press(self, *keys: str) -> None:
        self.actions().send_keys(*keys).perform()
        self.settle()

    @property
    def view(self) -> tuple[float, float]:
        data = self.script("return {...document.getElementById('figure').dataset}")
        return float(data["lo"]), float(data["hi"])

    def at(self, position: float, height: float):
        """A move to a mutated position, at a share of the figure's height."""
        box = self.script(
            "const b = document.getElementById('figure').getBoundingClientRect(); return [b.width, b.height]"
        )
        low, high = self.view
        x = LEFT + (position + 0.5 - low) / (high - low) * (box[0] - LEFT - RIGHT)
        return self.actions().move_to_element_with_offset(
            self.element("figure"), round(x - box[0] / 2), round((height - 0.5) * box[1])
        )

    def hover(self, position: float, height: float = 0.3) -> dict:
        self.at(position, height).perform()
        self.settle()
        return self.script("""
            const tip = document.getElementById("tip");
            const rows = [...tip.querySelectorAll("tbody tr")].map((r) =>
              [r.dataset.letter, [...r.cells].slice(1).map((c) => c.textContent), r.className]);
            return {hidden: tip.hidden, ...tip.dataset, rows, text: tip.textContent}""")

    def errors(self) -> list:
        return self.browser.get_log("browser")


@pytest.fixture
def reader(browser, address):
    found = Reader(browser, address)
    yield found
    assert found.errors() == []


def value(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))


def entries(reader) -> list[str]:
    return reader.script("return [...document.querySelectorAll('.entry b')].map((b) => b.textContent)")


def row_of(reader, scores) -> int:
    return list(scores.names).index(reader.text("#name"))


def test_it_opens_at_the_strongest_region_and_loads_nothing(reader, scores):
    effects = np.abs(scores.attributions()).max((1, 2))
    assert row_of(reader, scores) == effects.argmax()
    low, high = reader.view
    heights = scores.attributions()[effects.argmax()].sum(-1)
    assert low <= np.abs(heights).argmax() < high
    assert reader.script("return performance.getEntriesByType('resource').length") == 0
    assert reader.script("return document.title") == "In-silico mutagenesis of ctcf.keras"
    assert "log2FC" in reader.text("#summary")


@pytest.mark.parametrize("row", [0, 2, 4])  # plus strand, minus strand, with a run of N
def test_hovering_shows_the_numbers_of_the_result(browser, address, scores, row):
    reader = Reader(browser, f"{address}#{row}")
    assert row_of(reader, scores) == row
    reader.press("0")
    region = scores.regions[row]
    for position in (0, 1, 50, 93, 129):
        tip = reader.hover(position)
        assert (tip["hidden"], int(tip["position"])) == (False, position)
        there = scores.mutated[row, position]
        own = LETTERS[int(there.argmax())] if there.any() else "N"
        assert tip["reference"] == own
        expected = scores.attributions()[row, position].sum()
        assert float(tip["importance"]) == pytest.approx(expected, rel=1e-5, abs=1e-7)
        offset = 10 + position
        coordinate = region.end - 1 - offset if region.strand == "-" else region.start + offset
        assert f"{region.chrom}:{coordinate:,} · {own}" in tip["text"]
        assert f"offset {offset}" in tip["text"]
        for k, (letter, cells, _) in enumerate(tip["rows"]):
            assert letter == LETTERS[k]
            if letter == own:
                assert cells[0] == "reference"
                continue
            assert value(cells[0]) == pytest.approx(scores.differences[row, position, k, 0], rel=1e-3)
            if own != "N":
                turned = str.maketrans("ACGT", "TGCA") if region.strand == "-" else {}
                variant = f"{own}>{letter}".translate(turned)
                assert cells[1] == f"{region.chrom}:{coordinate + 1:,} {variant}", "counted from 1, on the plus strand"
    assert reader.errors() == []


def test_hovering_over_the_heatmap_marks_the_alternative(reader):
    heat = reader.script("""
        const h = document.getElementById("figure").clientHeight, heat = Math.min(4 * 27, 0.36 * h);
        return [0, 1, 2, 3].map((k) => (h - 50 - heat + (k + 0.5) * heat / 4) / h)""")
    middle = int(sum(reader.view) / 2)
    for letter, height in zip(LETTERS, heat, strict=True):
        tip = reader.hover(middle, height)
        assert [row[0] for row in tip["rows"] if row[2] == "on"] == [letter]
    assert reader.hover(middle, 0.01)["hidden"] is False
    reader.actions().move_to_element(reader.element("title")).perform()
    assert reader.script("return document.getElementById('tip').hidden")


def test_zoom_and_pan(reader):
    reader.press("0")
    assert reader.view == (0, 130)
    assert "130 of 130 bp" in reader.text("#range")
    assert not reader.element("out").is_enabled()
    reader.press("+")
    low, high = reader.view
    assert high - low == pytest.approx(0.6 * 130)
    reader.press("-")
    assert reader.view == (0, 130)
    for _ in range(20):
        reader.element("in").click()
    reader.settle()
    low, high = reader.view
    assert high - low == 8
    from selenium.webdriver.common.keys import Keys

    reader.press(Keys.ARROW_RIGHT)
    assert reader.view == pytest.approx((low + 2, high + 2))
    reader.element("whole").click()
    reader.settle()
    assert reader.view == (0, 130)


def test_the_wheel_zooms_at_the_pointer(reader):
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    reader.press("0")
    figure = reader.element("figure")
    reader.hover(20)
    before = reader.view
    width = reader.script("return arguments[0].clientWidth", figure)
    x = round(LEFT + 20.5 / 130 * (width - LEFT - RIGHT) - width / 2)
    reader.actions().scroll_from_origin(ScrollOrigin.from_element(figure, x, -100), 0, -120).perform()
    reader.settle()
    low, high = reader.view
    assert high - low < before[1] - before[0]
    share = (20.5 - low) / (high - low)
    assert share == pytest.approx(20.5 / 130, abs=0.01), "what is under the pointer stays there"


def test_dragging_moves_and_the_strip_chooses(reader):
    reader.press("0", "+", "+")
    low, high = reader.view
    reader.at((low + high) / 2, 0.3).click_and_hold().move_by_offset(150, 0).release().perform()
    reader.settle()
    moved = reader.view
    assert moved[1] - moved[0] == pytest.approx(high - low)
    assert moved[0] < low
    strip = reader.element("overview")
    width = reader.script("return arguments[0].clientWidth", strip)
    inner, start = width - LEFT - RIGHT, LEFT - width / 2
    reader.press("0")
    reader.actions().move_to_element_with_offset(strip, round(start + 0.2 * inner), 0).click_and_hold().move_by_offset(
        round(0.3 * inner), 0
    ).release().perform()
    reader.settle()
    assert reader.view == pytest.approx((0.2 * 130, 0.5 * 130), abs=0.5)


def test_search_filters_by_name_and_place(reader, scores):
    from selenium.webdriver.common.keys import Keys

    assert len(entries(reader)) == 14
    reader.press("/")
    search = reader.element("search")
    search.send_keys("peak_1")
    assert sorted(entries(reader)) == ["peak_1", "peak_10", "peak_11", "peak_12", "peak_13"]
    assert reader.text("#count") == "5 of 14"
    reader.press(Keys.ARROW_DOWN)
    assert reader.text("#name") == entries(reader)[1], "arrows move through what was found"
    search.send_keys(Keys.ESCAPE)
    assert len(entries(reader)) == 14
    region = scores.regions[6]
    reader.press("/")
    search.send_keys(f"{region.chrom}:{region.start + 30:,}-{region.start + 31}")
    assert entries(reader) == ["peak_7"]
    assert reader.text("#name") == "peak_7"
    search.send_keys(" elsewhere")
    assert entries(reader) == []
    assert "No region fits" in reader.text("#list")


def test_the_list_is_sorted_as_asked(reader, scores):
    from selenium.webdriver.support.select import Select

    effects = np.abs(scores.attributions()).max((1, 2))
    assert entries(reader) == [scores.names[n] for n in np.argsort(-effects)]
    shown = reader.script("return [...document.querySelectorAll('.entry span')].map((b) => b.textContent)")
    assert [value(text) for text in shown] == pytest.approx(sorted(effects, reverse=True), rel=5e-3)
    sort = Select(reader.element("sort"))
    sort.select_by_value("name")
    assert entries(reader)[-13:] == [f"peak_{n}" for n in range(1, 14)], "10 comes after 9"
    sort.select_by_value("place")
    order = sorted(range(14), key=lambda n: (scores.regions[n].chrom, scores.regions[n].start))
    assert entries(reader) == [scores.names[n] for n in order]
    sort.select_by_value("row")
    assert entries(reader) == list(scores.names)


def test_the_keyboard_moves_through_the_regions(reader):
    from selenium.webdriver.common.keys import Keys

    names = entries(reader)
    for key, expected in [("j", 1), (Keys.ARROW_DOWN, 2), ("k", 1), (Keys.ARROW_UP, 0), (Keys.END, 13), (Keys.HOME, 0)]:
        reader.press(key)
        assert reader.text("#name") == names[expected]
        chosen = reader.script(
            "return [...document.querySelectorAll('[aria-selected=true] b')].map((b) => b.textContent)"
        )
        assert chosen == [names[expected]]
    reader.press(".")
    first = reader.text("#live")
    assert re.match(r"chr\d:[\d,]+, [ACGTN], importance ", first), "positions are read out"
    reader.press(".")
    assert reader.text("#live") != first
    reader.press("?")
    assert reader.element("help").is_displayed()
    reader.press(Keys.ESCAPE)
    assert not reader.element("help").is_displayed()


def test_targets_rules_and_scales(reader, scores):
    reader.press("0")
    row = row_of(reader, scores)
    at = int(np.abs(scores.attributions()[row].sum(-1)).argmax())
    mean4 = float(reader.hover(at)["importance"])
    reader.press("r")
    assert float(reader.hover(at)["importance"]) == pytest.approx(4 / 3 * mean4)
    assert reader.script("return document.querySelector('[name=rule]:checked').value") == "mean3"
    reader.press("t")
    expected = scores.attributions("RAD21", rule="mean3")[row, at].sum()
    assert float(reader.hover(at)["importance"]) == pytest.approx(expected, rel=1e-5)
    assert reader.script("return document.getElementById('target').selectedOptions[0].text") == "RAD21"
    for scale in ("view", "all", "region"):
        reader.press("y")
        assert reader.script("return document.getElementById('scale').value") == scale


def test_strongest_substitutions_are_listed_and_lead_there(reader, scores):
    row = row_of(reader, scores)
    shown = reader.script("return [...document.querySelectorAll('#top tbody .number')].map((c) => c.textContent)")
    expected = scores.differences[row, ..., 0].ravel()
    expected = expected[np.argsort(-np.abs(expected))[:10]]
    assert [value(text) for text in shown] == pytest.approx(list(expected), rel=1e-3)
    reader.browser.find_element("css selector", "#top tbody button").click()
    reader.settle()
    at = np.abs(scores.differences[row, ..., 0]).max(-1).argmax()
    assert reader.script("return document.getElementById('tip').dataset.position") == str(at)


CATCH = """
    const done = arguments[1], make = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
      URL.createObjectURL = make;
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.readAsDataURL(blob);
      return "#";
    };
    document.getElementById(arguments[0]).click()"""


def saved(reader, kind: str) -> bytes:
    found = reader.browser.execute_async_script(CATCH, kind)
    return base64.b64decode(found.partition(",")[2])


def test_the_view_is_saved_as_svg_in_the_palette_that_is_shown(reader, scores):
    from fastism.plot.style import PALETTES

    root = ElementTree.fromstring(saved(reader, "svg"))
    low, high = reader.view
    letters = [e for e in root.iter() if e.get("data-letter")]
    assert high - low - 1 <= len(letters) <= high - low + 1
    assert {e.get("fill") for e in letters} <= set(PALETTES["default"].values())
    row = row_of(reader, scores)
    words = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert any(scores.names[row] in word for word in words)
    assert "importance (mean4)" in words
    reader.press("c")
    assert reader.element("palette").get_attribute("aria-pressed") == "true"
    root = ElementTree.fromstring(saved(reader, "svg"))
    assert {e.get("fill") for e in root.iter() if e.get("data-letter")} <= set(PALETTES["colourblind"].values())


def test_the_view_is_saved_as_png(reader):
    picture = saved(reader, "png")
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    width = int.from_bytes(picture[16:20], "big")
    assert width == 3 * reader.script("return document.getElementById('figure').clientWidth")


def corner(reader) -> list[int]:
    return reader.script("return [...document.getElementById('figure').getContext('2d').getImageData(2, 2, 1, 1).data]")


def test_light_and_dark(browser, address):
    reader = Reader(browser, address)
    assert min(corner(reader)) > 240
    reader = Reader(browser, address, dark=True)
    assert max(corner(reader)[:3]) < 60
    assert reader.errors() == []


def test_a_nasty_name_is_shown_as_it_is(browser, scores, tmp_path):
    nasty = replace(scores, targets=[NASTY, "b"], attributes={"model": NASTY, NASTY: NASTY})
    write_report(tmp_path / "page.html", nasty, title=NASTY)
    reader = Reader(browser, (tmp_path / "page.html").as_uri() + "#13")
    assert reader.text("#name") == NASTY
    assert reader.text("#title") == NASTY
    assert NASTY in entries(reader)
    reader.press("i")
    assert NASTY in reader.text("#attributes")
    saved_words = [e.text or "" for e in ElementTree.fromstring(saved(reader, "svg")).iter()]
    assert any(NASTY in word for word in saved_words)
    assert reader.script("return [typeof window.hacked, document.querySelectorAll('b#bold').length]") == [
        "undefined",
        0,
    ]
    assert reader.errors() == []


def test_the_page_says_what_it_leaves_out(browser, scores, tmp_path):
    write_report(tmp_path / "page.html", scores, max_sequences=5, precision="int16", targets=["CTCF"], rule="mean3")
    reader = Reader(browser, (tmp_path / "page.html").as_uri())
    assert reader.element("limited").is_displayed()
    assert "Showing 5 of 14 sequences: those with the largest attributions" in reader.text("#limited")
    assert "rounded to 16 bits" in reader.text("#caption")
    assert "at most 0.0015 %" in reader.text("#notes")
    assert not reader.element("target-field").is_displayed()
    tip = reader.hover(int(sum(reader.view) / 2))
    row, position = row_of(reader, scores), int(tip["position"])
    assert float(tip["importance"]) == pytest.approx(scores.attributions(rule="mean3")[row, position].sum(), abs=1e-4)
    assert reader.errors() == []


def test_distances_are_shown_upright_and_in_one_hue(browser, scores, tmp_path):
    far = distances(scores)
    write_report(tmp_path / "page.html", far)
    reader = Reader(browser, (tmp_path / "page.html").as_uri())
    assert "The redder, the more the prediction changes" in reader.text("#caption")
    assert "blue" not in reader.text("#caption") + reader.text("#notes")
    details = reader.text("#details")
    assert "Most important letter" in details
    assert "needed" not in details
    assert "harmful" not in details
    assert "+" not in reader.text("#top tbody")
    row = row_of(reader, far)
    position = int(sum(reader.view) / 2)
    tip = reader.hover(position)
    expected = far.differences[row, position, :, 0].sum() / 4
    assert float(tip["importance"]) == pytest.approx(expected, rel=1e-5)
    assert all("down" not in "".join(cells) for _, cells, _ in tip["rows"])
    root = ElementTree.fromstring(saved(reader, "svg"))
    assert not [
        e
        for e in root.iter()
        if e.get("data-letter") and "scale(" in e.get("transform") and re.search(r"scale\(\S+ -", e.get("transform"))
    ], "no letter hangs"
    fills = [e.get("fill") for e in root.iter() if e.get("fill", "").startswith("rgb(")]
    colours = [tuple(map(int, re.findall(r"\d+", fill))) for fill in fills]
    assert colours
    assert all(red >= blue - 2 for red, _, blue in colours), "no blue"
    words = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert sum(word.startswith("\N{MINUS SIGN}") for word in words) == 0
    assert reader.errors() == []


def test_it_opens_on_the_strongest_target_and_says_which_it_leaves_out(browser, scores, tmp_path):
    many = replace(scores, differences=scores.differences[..., [1, 0, 1]], reference=np.zeros((14, 3)), targets="abc")
    write_report(tmp_path / "page.html", many, max_targets=2)
    reader = Reader(browser, (tmp_path / "page.html").as_uri())
    assert reader.script("return document.getElementById('target').selectedOptions[0].text") == "b"
    assert reader.element("limited").is_displayed()
    assert "Showing 2 of 3 targets: those with the largest" in reader.text("#limited")
    assert "3 targets" in reader.text("#summary")
    heading = reader.script("return [...document.querySelectorAll('#top th')].map((h) => h.textContent)")
    assert (heading[0], heading[2]) == ("Position, 0-based", "Variant, 1-based as in VCF")
    assert "Target" in reader.text("#details")
    alone = replace(scores, differences=scores.differences[..., :1], reference=np.zeros((14, 1)), targets=["0"])
    write_report(tmp_path / "page.html", alone)
    reader = Reader(browser, (tmp_path / "page.html").as_uri())
    assert "Target" not in reader.text("#details")
    assert "target" not in reader.element("figure").get_attribute("aria-label")
    assert reader.errors() == []


def test_a_result_without_regions_names_or_dna(browser, tmp_path):
    generator = np.random.default_rng(0)
    sequences = np.eye(20)[generator.integers(0, 20, (3, 30))]
    differences = generator.normal(size=(3, 30, 20, 1)) * (1 - sequences[..., None])
    from fastism.result import ISMScores

    proteins = ISMScores(sequences, differences, np.zeros((3, 1)), alphabet="ACDEFGHIKLMNPQRSTVWY")
    write_report(tmp_path / "page.html", proteins)
    reader = Reader(browser, (tmp_path / "page.html").as_uri())
    assert sorted(entries(reader)) == ["sequence 0", "sequence 1", "sequence 2"]
    tip = reader.hover(12)
    assert len(tip["rows"]) == 20
    row = int(reader.text("#name").split()[-1])
    assert float(tip["importance"]) == pytest.approx(proteins.attributions()[row, 12].sum())
    root = ElementTree.fromstring(saved(reader, "svg"))
    assert root is not None
    assert reader.errors() == []


def test_it_fits_a_narrow_screen_and_every_control_has_a_name(browser, address):
    reader = Reader(browser, address, width=390)
    assert reader.script("return document.documentElement.scrollWidth <= innerWidth")
    unnamed = reader.script("""
        return [...document.querySelectorAll("button, select, input, canvas, ul")].filter((e) =>
          !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)""")
    assert unnamed == []
    assert reader.errors() == []
