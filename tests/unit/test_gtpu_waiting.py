"""Objects that wait: taken in the order of their age, and no work for those whose turn has not come."""

from __future__ import annotations

import random

from vpp_operator.api.problem import Owner
from vpp_operator.gtpu.model import Age
from vpp_operator.gtpu.waiting import Waiting


class Objects:
    """Objects by owner, which counts every look at an age."""

    def __init__(self, number: int) -> None:
        self.ages: dict[Owner, Age] = {}
        self.looks = 0
        for i in random.Random(7).sample(range(number), number):
            self.put(i, f"{i:06d}")

    def put(self, i: int, created: str) -> Owner:
        owner = Owner("GtpuTunnel", "t", f"t{i}")
        self.ages[owner] = Age(created, f"uid-{i}", owner)
        return owner

    def age(self, owner: Owner) -> Age | None:
        self.looks += 1
        return self.ages.get(owner)


def taken(waiting: Waiting, limit: int | None) -> list[str]:
    return sorted(owner.name for owner in waiting.take(limit))


def test_what_is_gone_comes_first_then_the_oldest() -> None:
    objects = Objects(10)
    waiting = Waiting(objects.age)
    for owner in objects.ages:
        waiting.add(owner)
    assert taken(waiting, 3) == ["t0", "t1", "t2"] and len(waiting) == 7
    gone = Owner("GtpuTunnel", "t", "t8")
    del objects.ages[gone]
    waiting.add(gone)
    # Made anew: it is the newest now, though it was entered as an older one.
    waiting.add(objects.put(3, "900000"))
    assert taken(waiting, 2) == ["t4", "t8"]
    assert taken(waiting, 3) == ["t5", "t6", "t7"]
    assert taken(waiting, None) == ["t3", "t9"] and not waiting
    waiting.update([owner for owner in objects.ages if owner.name in ("t1", "t2")])
    assert taken(waiting, 1) == ["t1"] and next(iter(waiting)).name == "t2"


def test_the_work_grows_with_the_number_of_objects_alone() -> None:
    number = 5000
    objects = Objects(number)
    waiting = Waiting(objects.age)
    for owner in objects.ages:
        waiting.add(owner)
    waiting.update(list(objects.ages))
    names: list[Owner] = []
    while waiting:
        names += sorted(waiting.take(50), key=lambda owner: objects.ages[owner])
    assert names == sorted(objects.ages, key=lambda owner: objects.ages[owner])
    assert objects.looks <= 3 * number
