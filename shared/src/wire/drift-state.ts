import { counted } from '../phrases.ts'
import type { DomainSummary } from './admin-overview.ts'

/** What is known about the drift of a domain. `unjudged`: its detectors get no observations. */
export type DriftState = 'drifting' | 'steady' | 'unknown' | 'unjudged'

/** What is known about the drift of a domain, and the words for it. */
export interface KnownDrift {
  state: DriftState
  words: string
}

/**
 * Returns what is known about the drift of a domain. It is called steady only once its detectors have enough observations to
 * judge it, and its requests of the last 24 hours were scored.
 */
export function knownDrift({
  drifting,
  missing_observations: missing,
  scored_requests: scored,
  gap,
}: DomainSummary): KnownDrift {
  if (drifting) return { state: 'drifting', words: 'drifting' }
  // Detectors read the scored requests of registered domains only.
  if (missing === null) return { state: 'unjudged', words: scored === 0 ? 'not scored' : 'not registered' }
  if (missing > 0)
    return { state: 'unknown', words: `not known yet: ${counted(missing, 'observation')} missing` }
  if (gap === null) return { state: 'unknown', words: 'not known: too few scores in 24 hours' }
  return { state: 'steady', words: 'steady' }
}
