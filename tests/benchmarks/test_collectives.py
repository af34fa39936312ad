"""Collectives read from a module written by hand in the compiler's notation."""

import pytest

from alphaecoli.benchmarks.memory_plan import collectives

MODULE = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[8,4]{1,0})->f32[8,4]{1,0}}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%body (state: (s32[], bf16[16,4])) -> (s32[], bf16[16,4]) {
  %state = (s32[]{:T(128)}, bf16[16,4]{1,0:T(8,128)(2,1)}) parameter(0)
  %moved = bf16[16,4]{1,0:T(8,128)(2,1)} collective-permute(%half), channel_id=2
  ROOT %next = (s32[]{:T(128)}, bf16[16,4]{1,0}) tuple(%i, %moved)
}

%condition (state: (s32[], bf16[16,4])) -> pred[] {
  ROOT %more = pred[]{:T(512)} compare(%i, %n), direction=LT
}

%hidden (p: f32[8]) -> f32[2] {
  ROOT %share = f32[2]{0:T(128)} reduce-scatter(%p), channel_id=3, dimensions={0}, to_apply=%add
}

%gathering.1 (p: bf16[16,4]) -> (f32[8], bf16[64,4]) {
  %gathered.1 = bf16[64,4]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=6, dimensions={0}
  ROOT %both = (f32[8]{0}, bf16[64,4]{1,0}) tuple(%p, %gathered.1)
}

%gathering.2 (p: bf16[16,4]) -> (f32[8], bf16[64,4]) {
  %gathered.2 = bf16[64,4]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=6, dimensions={0}
  ROOT %both.2 = (f32[8]{0}, bf16[64,4]{1,0}) tuple(%p, %gathered.2)
}

%unused (p: f32[8]) -> f32[8] {
  ROOT %nothing = f32[8]{0} all-reduce(%p), channel_id=9, to_apply=%add
}

ENTRY %main.1 (input: f32[8,4]) -> f32[8,4] {
  %input = f32[8,4]{1,0:T(8,128)} parameter(0)
  %two = (f32[8,4]{1,0:T(8,128)S(1)}, /*index=1*/pred[3]{0}) all-reduce(%input, %k), \
channel_id=1
  %loop = (s32[], bf16[16,4]{1,0}) while(%init), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %fused = f32[2]{0:T(128)} fusion(%input), kind=kCustom, calls=%hidden
  %begun = (f32[8,4]{1,0:T(8,128)}, f32[32,4]{1,0:T(8,128)}) all-gather-start(%input), channel_id=4
  %whole = f32[32,4]{1,0:T(8,128)} all-gather-done(%begun)
  %go = ((f32[2]{0}, f32[3]{0}), (f32[2]{0}, f32[3]{0})) collective-permute-start(%a), channel_id=5
  %first = (f32[8]{0}, bf16[64,4]{1,0}) fusion(%part), kind=kCustom, calls=%gathering.1
  %last = (f32[8]{0}, bf16[64,4]{1,0}) fusion(%first), kind=kCustom, calls=%gathering.2
  %named = f32[8,4]{1,0} add(%input, %input), metadata={op_name="an all-to-all( in a name"}
  ROOT %out = f32[8,4]{1,0} copy(%input)
}
"""


def test_collectives_are_counted_by_kind_with_their_bytes():
  assert collectives(MODULE) == {
    "all-gather": {"count": 2, "bytes": 4 * 32 * 4 + 2 * 64 * 4},  # one of them in two steps
    "collective-permute": {"count": 5 + 1, "bytes": 5 * 2 * 16 * 4 + 4 * (2 + 3)},  # in a loop
    "all-reduce": {"count": 1, "bytes": 4 * 8 * 4 + 3},  # of two arrays at once
    "reduce-scatter": {"count": 1, "bytes": 4 * 2},  # in a fusion
  }


def test_a_loop_of_unknown_length_counts_once():
  once = MODULE.replace('"known_trip_count":{"n":"5"}', "")
  assert collectives(once)["collective-permute"] == {"count": 2, "bytes": 128 + 20}


def test_a_program_on_one_device_has_none():
  alone = "ENTRY %main (p: f32[2]) -> f32[2] {\n  ROOT %y = f32[2]{0} add(%p, %p)\n}\n"
  assert collectives(alone) == {}


def test_another_text_is_refused():
  with pytest.raises(ValueError, match="ENTRY"):
    collectives("module @jit_step { }")
