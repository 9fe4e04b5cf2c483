import type { CachedCalibration, CachedEvaluation, CachedMask } from './lab-cache.ts'
import type { MaskPlan } from '../plan/plan-runs.ts'

/** What a run knows so far, by names; the cache holds the same by content. */
export interface Findings {
  /** By {@link maskKey}. */
  masks: Map<string, CachedMask>
  /** By {@link pairKey} of the mask's hash, or null for dense, and the domain. */
  evaluations: Map<string, CachedEvaluation>
  /** By {@link pairKey} of domain and sequences. */
  calibrations: Map<string, CachedCalibration>
  /** Fraction of bits that differ, by {@link pairKey} of two hashes, in either order. */
  churns: Map<string, number>
}

export function createFindings(): Findings {
  return { masks: new Map(), evaluations: new Map(), calibrations: new Map(), churns: new Map() }
}

/** Names a mask by what decides it. */
export function maskKey({ method, pattern, scope, samples, propagation, domains }: MaskPlan): string {
  return JSON.stringify([method, pattern, scope, samples, propagation, domains])
}

/** Names a pair. */
export function pairKey(a: string | null, b: string | number): string {
  return JSON.stringify([a, b])
}
