"""Searches on models of which not all layers have all statistics, and where the layers are elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pzc.compiler.load import inline
from pzc.runtime.errors import NoGradient
from pzc.runtime.models.layers import find_layers
from pzc.runtime.statistics.gather import Statistics
from pzc.runtime.statistics.unreached import UnreachedExperts
from pzc.search.bar import Bar
from pzc.search.fitness import Fitness
from pzc.search.plan import Plan
from pzc.search.proposals import Proposal
from pzc.search.settle import settle
from pzc.search.shared import shared
from tests.conftest import make_tiny
from tests.families import make_family, without_expert
from tests.searches import closed, genotype, made, tiny_fitness, tiny_statistics


def through_a_file(model: Any, folder: Path) -> Fitness:
    statistics = shared(folder / "statistics", "a model", lambda: tiny_statistics(model))
    return tiny_fitness(model=model, statistics=statistics)


def test_an_expert_that_no_token_reached_is_scored_all_the_same(tmp_path: Path) -> None:
    model = without_expert(make_family("Mixtral"), 2)
    with pytest.warns(UnreachedExperts):
        fitness = through_a_file(model, tmp_path)
    plain = tiny_fitness(model=model, statistics=fitness.statistics)
    for formula in ("abs(W) * X per row", "abs(W) * G per model"):
        masks, name = fitness.masks(genotype(formula))
        assert name == plain.masks(genotype(formula))[1]
        assert fitness.sketches.of(genotype(formula)) is not None
        assert set(fitness.predicted(masks)) == {"second-order loss", "output error"}


def test_a_layer_without_gradients_refuses_what_reads_them(tmp_path: Path) -> None:
    model = make_tiny()
    model.model.layers[1].self_attn.o_proj.weight.data.zero_()
    fitness = through_a_file(model, tmp_path)
    assert fitness.sketches.of(genotype("abs(W) * G per row")) is None
    with pytest.raises(NoGradient):
        fitness.masks(genotype("abs(W) * G per row"))
    state = closed(Plan(), [[], []])
    for formula, status in (("abs(W) * G", "refused"), ("abs(W) * X", "evaluated")):
        new = Proposal(made(0, formula, status="proposed"), inline(f"{formula} per row").core)
        assert settle(new, state, fitness, Bar(())).status == status


def devices(statistics: Statistics) -> dict[str, set[str]]:
    return {
        name: {x.device.type for x in (*table.values(), statistics.weights[name])}
        for name, table in statistics.tables.items()
    }


def test_statistics_are_taken_to_where_the_layers_are() -> None:
    model = make_tiny()
    layers, statistics = find_layers(model).layers, tiny_statistics(model)
    here = statistics.beside(layers)
    assert all(here.weights[name] is weight for name, weight in statistics.weights.items())  # nothing is copied
    model.model.layers[1].to("meta")
    assert devices(statistics.beside(layers)) == {
        layer.name: {"meta" if layer.block == 1 else "cpu"} for layer in layers
    }
    assert torch.equal(statistics.beside(layers).weights[layers[0].name], layers[0].weight)
