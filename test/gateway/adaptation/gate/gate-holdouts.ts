import type { GateHoldout, GateInput } from '../../../../gateway/src/adaptation/gate/gate-input.ts'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { SOUND_GENERATION } from '../../support/doubles/simulated-node.ts'

/** Enough windows of 512 tokens for a domain to be judged by itself. */
const FULL_WINDOWS = 16
/** Deviations of window differences from their mean; they sum to 0 over a full holdout. */
const SPREAD = 0.02

/** A holdout on which dense has the perplexity 10. Ratios of the other masks' perplexities are against it. */
export interface HoldoutSketch {
  domain: string
  candidate: number | null
  parent?: number
  best?: { version: number; ratio: number }
  windows?: number
  /** Scored tokens of each window. */
  scored?: number
  isNew?: boolean
  weight?: number
}

/** Creates the measurements of a holdout; the differences between masks spread by 0.02 nats over its windows. */
function holdoutOf(sketch: HoldoutSketch): GateHoldout {
  const {
    domain,
    candidate,
    parent,
    best,
    windows = FULL_WINDOWS,
    scored = 511,
    isNew = false,
    weight = 1,
  } = sketch
  const lossesOf = (ratio: number | null, spread = 0) => {
    if (ratio === null) return { nllMean: null, windowNll: Array.from({ length: windows }, () => null) }
    const nllMean = Math.log(10 * ratio)
    return {
      nllMean,
      windowNll: Array.from(
        { length: windows },
        (_, window) => nllMean + (window % 2 === 0 ? spread : -spread),
      ),
    }
  }
  return {
    domain,
    sha256: domain.padEnd(64, '0'),
    windowTokens: Array.from({ length: windows }, () => scored),
    isNew,
    weight,
    candidate: lossesOf(candidate, SPREAD),
    dense: lossesOf(1),
    ...(parent === undefined ? {} : { parent: lossesOf(parent) }),
    ...(best ? { best: { version: best.version, ...lossesOf(best.ratio) } } : {}),
  }
}

/** Creates the input of the gate from sketches, with the default policy. */
export function gateInput(sketches: readonly HoldoutSketch[], changes: Partial<GateInput> = {}): GateInput {
  return {
    policy: PRESETS.production.gate,
    holdouts: sketches.map(holdoutOf),
    generation: { candidate: SOUND_GENERATION, dense: SOUND_GENERATION },
    candidate: 1,
    ...changes,
  }
}
