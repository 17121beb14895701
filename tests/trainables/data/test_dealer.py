from trainables.data.dealer import Turn, deal_patients

BY_PATIENT = {"p": ["p1", "p2", "p3"], "q": ["q1", "q2"], "r": ["r1"], "s": ["s1"]}
RARE, COMMON = frozenset({1, 2}), frozenset({2})
PRESENCE = {"p1": COMMON, "p2": COMMON, "p3": COMMON, "q1": COMMON, "q2": COMMON, "r1": RARE, "s1": frozenset[int]()}


def test_the_rarest_class_comes_first_then_the_largest_patient() -> None:
    turns: list[Turn] = []

    def choose(turn: Turn) -> str:
        turns.append(turn)
        return turn.allowed[0]

    parts = deal_patients(BY_PATIENT, {"a": 0.5, "b": 0.5}, 0, PRESENCE, choose)
    assert [turn.n_regions for turn in turns] == [1, 3, 2, 1]  # r has class 1; p and q have class 2; s has none
    assert [turn.n_regions_after for turn in turns] == [6, 3, 1, 0]
    assert [turn.lacking for turn in turns] == [["a", "b"], ["b"], ["b"], []]
    assert parts == {"a": ("p1", "p2", "p3", "q1", "q2", "r1"), "b": ("s1",)}  # s was the last that b could get


def test_each_part_gets_a_patient_whatever_is_chosen() -> None:
    parts = deal_patients(BY_PATIENT, dict.fromkeys("abcd", 0.25), 1, PRESENCE, lambda turn: turn.allowed[-1])
    assert sorted(len(names) for names in parts.values()) == [1, 1, 2, 3]


def test_the_seed_decides_between_patients_that_are_alike() -> None:
    alike = {f"{number:02}": [f"{number:02}.png"] for number in range(20)}
    presence = dict.fromkeys([name for names in alike.values() for name in names], COMMON)
    shares = {"a": 0.5, "b": 0.5}

    def choose(turn: Turn) -> str:
        return max(turn.allowed, key=lambda part: turn.room[part])

    dealt = [deal_patients(alike, shares, seed, presence, choose) for seed in (0, 0, 1)]
    assert dealt[0] == dealt[1] != dealt[2]
