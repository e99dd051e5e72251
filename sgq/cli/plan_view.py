"""A plan for people and for programs: every site with its spec and bytes, and the totals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sgq.cli.output import console

if TYPE_CHECKING:
    from sgq.cost.memory import MemoryReport
    from sgq.recipe.plan import Plan

MEMORY_KEYS = (
    *("packed_bytes", "file_bytes", "bucket_id_bytes", "float_parameter_bytes", "buffer_bytes"),
    *("dense_fp32_bytes", "sparse_fp32_bytes", "ratio_dense", "ratio_sparse", "sgquant_bits"),
    *("a2q_bits", "mixq_bits"),
)


def plan_json(plan: Plan, memory: MemoryReport) -> dict[str, Any]:
    """Return the plan, its digest and its modelled memory as plain data."""
    return {
        "digest": plan.digest,
        "plan": plan.to_json(),
        "memory": {key: getattr(memory, key) for key in MEMORY_KEYS}
        | {"sites": {str(counted.site.name): counted.total_bytes for counted in memory.sites}},
    }


def print_plan(plan: Plan, memory: MemoryReport) -> None:
    """Print one line a site that counts for memory, the totals beside float, and the plan's remarks."""
    from sgq.cost.memory import memory_of
    from sgq.pipeline.reporting import float_plan, report_row, site_rows
    from sgq.report.table import print_comparison, print_sites

    out = console()
    out.print(f"{plan.recipe}: {len(plan.quantized)} of {len(plan)} sites quantized, plan {plan.digest}")
    print_sites(site_rows(plan, memory), out)
    out.print()
    before = report_row("float", memory_of(float_plan(plan)), None, family="float")
    print_comparison([before, report_row(plan.recipe, memory, None, family="recipe")], out)
    for text in plan.notes:
        out.print(f"note: {text}")
