import type { CachedCalibration, CachedEvaluation, CachedMask } from './lab-cache.ts'
import type { MaskPlan } from '../plan/plan-runs.ts'

/** The results of a run so far, by name. The cache holds the same results by content. */
export interface Findings {
  /** By {@link maskKey}. */
  masks: Map<string, CachedMask>
  /** By {@link pairKey} of the mask's hash (null: dense) and the domain. */
  evaluations: Map<string, CachedEvaluation>
  /** By {@link pairKey} of domain and number of samples. */
  calibrations: Map<string, CachedCalibration>
  /** Fraction of bits that differ between two masks, by {@link pairKey} of their hashes, stored in both orders. */
  churns: Map<string, number>
}

/** Creates empty findings. */
export function createFindings(): Findings {
  return { masks: new Map(), evaluations: new Map(), calibrations: new Map(), churns: new Map() }
}

/** Returns the map key of a mask: everything that determines it. */
export function maskKey({ method, pattern, scope, samples, propagation, domains }: MaskPlan): string {
  return JSON.stringify([method, pattern, scope, samples, propagation, domains])
}

/** Returns the map key of a pair. */
export function pairKey(a: string | null, b: string | number): string {
  return JSON.stringify([a, b])
}
