import type { MaskChurn, MaskLinears } from '@copal/shared/wire/admin-mask-linears.ts'
import type { MaskEntry } from '@copal/shared/wire/admin.ts'
import { ageOf, LEARNED, LINEAGE } from './lineage.ts'
import { ago, MODEL } from './service.ts'

/** Masks. */
export function masks(): { data: MaskEntry[] } {
  return {
    data: LINEAGE.map(([version, parent, state]) => ({
      model: MODEL,
      version,
      sha256: String(version).padStart(64, 'a'),
      parent_version: parent,
      method: 'wanda+swaps',
      pattern: '50%',
      scope: 'row' as const,
      sparsity: 0.5,
      churn: parent === null ? null : 0.012 + (version % 5) * 0.007,
      domains: [...new Set(LEARNED.slice(0, 1 + Math.floor(version / 3)).flat())].sort(),
      bytes: 77_000_000,
      pinned: version === 5,
      swept_at: version === 3 ? ago(4_000) : null,
      active: version === 14,
      previous: version === 13,
      created_at: ago(ageOf(version)),
      promoted_at: state === 'failed' || state === 'canary' ? null : ago(ageOf(version) - 30),
    })),
  }
}

/** One mask. */
export function maskOf(version: number): MaskEntry | undefined {
  return masks().data.find((mask) => mask.version === version)
}

const KINDS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
const linearsOf = (valueOf: (layer: number, kind: number) => number) =>
  Array.from({ length: 16 }, (_, layer) =>
    KINDS.map((kind, index) => ({ layer, kind, value: valueOf(layer, index) })),
  ).flat()

/** The sparsity of each linear of a mask. */
export function linears(version: number): MaskLinears {
  return {
    model: MODEL,
    version,
    linears: linearsOf(
      (layer, kind) => 0.5 + 0.12 * Math.sin(layer / 3 + kind) - (layer === 0 ? 0.2 : 0),
    ).map(({ value, ...linear }) => ({ ...linear, rows: 2_048, columns: 2_048, sparsity: value })),
  }
}

/** The difference of two masks by linear. */
export function churn(version: number, other: number): MaskChurn {
  const scale = other === 0 ? 0.5 : 0.01 * Math.abs(version - other)
  return {
    model: MODEL,
    version,
    other,
    churn: scale,
    linears: linearsOf(
      (layer, kind) => scale * (0.4 + 1.2 * Math.abs(Math.sin(layer * 0.7 + kind * 1.3))),
    ).map(({ value, ...linear }) => ({ ...linear, churn: Math.min(1, value) })),
  }
}
