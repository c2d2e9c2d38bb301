"""Maps of labels and of the domains found in each space, in the colours of the labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import pandas as pd
import scipy
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spotwise.reporting.figures import spot_plot, style
from spotwise.reporting.figures.spot_plot import Section
from spotwise.reporting.number_format import number

PANELS_SHARE = 0.97  # of the figure's width, as there is no colour bar
# Any two differ by at least 15 CIELAB units under normal vision, deuteranopia and protanopia, and each by 12 from the
# faded tissue. Pink, the colour of the tissue, comes late.
DOMAIN_COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#332288", "#D55E00", "#56B4E9"),
    *("#F0E442", "#691E00", "#87E187", "#CC79A7", "#4B2D4B", "#0078F0"),
)
LATER_SHADES = (0.5, -0.4)  # from the 13th colour on; share of white mixed in, or of black where negative
UNLABELLED, NO_LABEL = style.UNDEFINED, "no label"
LEGEND_ROW, LEGEND_HANDLE = 3.5 * style.MM, 8 * style.MM  # height of a row, width of a marker with its gaps


def palette(names: Iterable[Hashable]) -> dict:
    """Assign a colour to each name by its place."""
    return dict(zip(names, _colours(), strict=False))


def _colours() -> Iterator[str]:
    """Yield the colours of domains in order, without end."""
    yield from DOMAIN_COLOURS
    for shade in cycle(LATER_SHADES):
        yield from (style.lighten(colour, shade) for colour in DOMAIN_COLOURS)


def free_colours(used: Iterable[str]) -> Iterator[str]:
    """Yield the colours of domains in order, except those in use."""
    used = {*used}
    return (colour for colour in _colours() if colour not in used)


def classes_of(labels: Iterable[pd.Series]) -> list[str]:
    """Return the sorted classes of some slides' labels."""
    return sorted(set().union(*(series.dropna() for series in labels)))


def match_domains(domains: pd.Series, classes: pd.Series) -> dict:
    """Match domains to classes one to one by the Hungarian method.

    Both are by barcode, NaN where there is none. The matching maximises the number of agreeing spots. It leaves out
    domains that share no spot with the class left for them. It serves colours only and must enter no score.
    """
    shared = pd.crosstab(domains, classes.reindex(domains.index))
    pairs = zip(*scipy.optimize.linear_sum_assignment(shared.to_numpy(), maximize=True), strict=True)
    return {shared.index[row]: shared.columns[column] for row, column in pairs if shared.iat[row, column]}


@dataclass(frozen=True)
class Colouring:
    """Colours of a slide's domains, taken from the classes that they match.

    Attributes
    ----------
    classes
        Class of each spot by barcode: its label (NaN for none), or on a slide without labels its domain in the
        reference space.
    colours
        Class -> colour.
    labelled
        Whether the classes are labels.
    """

    classes: pd.Series
    colours: Mapping[Hashable, str]
    labelled: bool

    def of_classes(self) -> list[str]:
        """Return the (N,) colours of the spots by class."""
        return list(self.classes.map(self.colours).fillna(UNLABELLED))

    def by_domain(self, domains: pd.Series) -> dict:
        """Map each domain to the colour of its class, or to a free colour."""
        matched = match_domains(domains, self.classes)
        free = free_colours(self.colours.values())
        numbers = sorted(domains.unique())
        return {domain: self.colours[matched[domain]] if domain in matched else next(free) for domain in numbers}

    def of_domains(self, domains: pd.Series) -> list[str]:
        """Return the (N,) colours of the spots by domain."""
        return list(domains.map(self.by_domain(domains)))

    def legend(self, drawn: Iterable[Sequence[str]]) -> dict[str, str]:
        """Map names to colours for the spots' colours ``drawn`` in some panels."""
        present = set().union(*drawn)
        named = {str(name): colour for name, colour in self.colours.items()} | {NO_LABEL: UNLABELLED}
        unmatched = [c for c in islice(_colours(), len(named) + len(present)) if c in present - {*named.values()}]
        named |= {f"unmatched domain {place}": colour for place, colour in enumerate(unmatched, start=1)}
        return {name: colour for name, colour in named.items() if colour in present}


def colouring(reference: pd.Series, labels: pd.Series | None, classes: Sequence[str] = ()) -> Colouring:
    """Choose the colours of a slide's domains.

    Parameters
    ----------
    reference
        (N,) domains in the reference space by barcode.
    labels
        Known domains by barcode, NaN where there is none; None for a slide without labels.
    classes
        All classes of the cohort's labels (`classes_of`), so that a class has one colour on all slides.
    """
    if labels is not None:
        return Colouring(labels.reindex(reference.index), palette(classes), True)
    named = "domain " + reference.astype(str)
    return Colouring(named, palette(f"domain {number}" for number in sorted(reference.unique())), False)


def select(table: pd.DataFrame, space: str, seed: int, refined: bool = False) -> pd.DataFrame:
    """Select the rows of k-means in one space from one seed.

    ``table`` is a slide's ``domains.parquet`` or ``domain_scores.tsv``.
    """
    wanted = {"space": space, "seed": seed, "clustering": "kmeans", "refined": refined}
    return table[(table[list(wanted)] == list(wanted.values())).all(axis=1)]


def domains_in(table: pd.DataFrame, space: str, seed: int, refined: bool = False) -> pd.Series:
    """Return the (N,) k-means domains of a slide in one space by barcode."""
    return select(table, space, seed, refined).set_index("barcode")["domain"]


@style.page()
def draw_domains(
    section: Section,
    table: pd.DataFrame,
    scores: pd.DataFrame,
    spaces: Sequence[str],
    seed: int,
    colours: Colouring,
    heading: str,
) -> Figure:
    """Draw the slide, its labels and the k-means domains of each space.

    Titles give the ARI if there are labels, else the number of domains.

    Parameters
    ----------
    section
        The slide with the spots of the reference space's domains, in their order, drawn at their true size.
    table, scores
        The slide's ``domains.parquet`` and ``domain_scores.tsv``.
    spaces
        Spaces in display order, the reference first. Its refined domains follow its raw ones.
    seed
        Seed of the domains to draw.
    colours
        `colouring` of the slide.
    """
    panels = []
    if colours.labelled:
        panels.append((f"Labels\n{colours.classes.nunique()} classes", colours.of_classes()))
    for space, refined in [(spaces[0], False), (spaces[0], True), *((space, False) for space in spaces[1:])]:
        domains = domains_in(table, space, seed, refined).reindex(colours.classes.index)
        ari = select(scores, space, seed, refined)["ARI"].iloc[0]
        found = f"ARI = {number(ari)}" if colours.labelled else f"{domains.nunique()} domains"
        panels.append((f"{space}{', refined' * refined}\n{found}", colours.of_domains(domains)))
    legend = colours.legend(drawn for _, drawn in panels)
    paints = [(title, {"facecolors": drawn}) for title, drawn in panels]
    fig, _ = spot_plot.draw_on_slide(section, paints, heading, PANELS_SHARE)
    fig.set_figheight(fig.get_figheight() + legend_height(legend, fig.get_figwidth()))
    draw_legend(fig, legend)
    return fig


def draw_legend(fig: Figure, legend: Mapping[str, str]) -> None:
    """Draw a legend of colours under a figure, in as many columns as fit."""
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=4, color=colour, label=style.plain(name))
        for name, colour in legend.items()
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=_columns(legend, fig.get_figwidth()))


def legend_height(legend: Mapping[str, str], width: float) -> float:
    """Return the height of `draw_legend` in inches for a figure of ``width`` inches."""
    return -(-len(legend) // _columns(legend, width)) * LEGEND_ROW


def _columns(legend: Mapping[str, str], width: float) -> int:
    widest = max(style.text_width(name, style.RC["legend.fontsize"]) for name in legend)
    return max(1, min(len(legend), int(width / (widest + LEGEND_HANDLE))))
