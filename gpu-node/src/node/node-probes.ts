import { createProbeScorer, type ProbeScorer } from '../serving/control/probe-scorer.ts'
import type { NodeFoundation } from './foundation.ts'
import type { ServedWeights } from './served-weights.ts'

/** Creates the scorer of the probe texts, which looks for sets to score whenever the weights of the node change. */
export function createNodeProbes(
  { model, settings, log }: NodeFoundation,
  weights: ServedWeights,
): ProbeScorer {
  const probes = createProbeScorer({
    engine: weights.engine,
    codec: model.codec,
    weightSets: () => weights.swap.readySets(),
    log,
    intervalMs: settings.probeMs,
  })
  weights.subscribe(() => probes.check())
  return probes
}
