/** The situations in which `gate-replay.ts` replays the gate. */
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import type { GateCase } from './gate-replay.ts'

const THREE = { speech: 1, novel: 1, general: 1 }
/** Services, and the parts of their target that their holdouts have. */
const SERVICES = [
  { service: 'three domains', traffic: THREE, sizes: [0, 1] },
  {
    service: 'three domains, nine tenths of the traffic in speech',
    traffic: { ...THREE, speech: 18 },
    sizes: [0, 1],
  },
  { service: 'speech alone', traffic: { speech: 1 }, sizes: [0, 2 / 3, 1] },
  { service: 'novel alone', traffic: { novel: 1 }, sizes: [0, 2 / 3, 1] },
  { service: 'short texts of speech alone', traffic: { 'short speech': 1 }, sizes: [0, 1] },
  { service: 'short texts of novel alone', traffic: { 'short novel': 1 }, sizes: [0, 1] },
]
/** Losses of a domain whose constraint is tested, percent. */
const LOSSES = [3, 4, 5]
const IN_TURN = [1, 2, 3]

/** Texts of which several windows may follow each other, with the numbers in a row and the part of their target. */
const IN_A_ROW = [
  ...['speech', 'novel', 'general'].map((text) => ({ text, numbers: [1, 2, 4], grown: 1 })),
  ...['short speech', 'short general'].map((text) => ({ text, numbers: [1, 4, 16], grown: 0 })),
]

/** Returns the cases of the four tables. */
export function gateCases(runs: number): GateCase[] {
  return [...equalCases(runs), ...limitCases(runs), ...constraintCases(runs), ...inARowCases(runs)]
}

/** Refreshes by a mask that is as good as the active one, as the first candidate beside it, the second and the third. */
function equalCases(runs: number): GateCase[] {
  return SERVICES.flatMap(({ service, traffic, sizes }) =>
    sizes.flatMap((grown) =>
      IN_TURN.map((candidate) => ({
        group: 'equal' as const,
        service,
        traffic,
        grown,
        ratios: {},
        candidates: [candidate],
        runs,
      })),
    ),
  )
}

/** Refreshes by masks that are worse by exactly what the purpose allows, by one alone and by three in turn. */
function limitCases(runs: number): GateCase[] {
  const limit = PRESETS.production.gate.max_refresh_regression
  return SERVICES.flatMap(({ service, traffic }) =>
    [0, 1].flatMap((grown) =>
      [[1], IN_TURN].map((candidates) => ({
        group: 'limit' as const,
        service,
        traffic,
        grown,
        ratios: Object.fromEntries(Object.keys(traffic).map((text) => [text, limit])),
        candidates,
        runs,
      })),
    ),
  )
}

/** Updates of a new domain whose gain wins the purpose, so that only the constraint of another one can catch its loss. */
function constraintCases(runs: number): GateCase[] {
  const names = Object.keys(THREE)
  return names.flatMap((text) => {
    const newDomain = names.find((name) => name !== text) ?? ''
    return [0, 1].flatMap((grown) =>
      [...LOSSES.map((loss) => ({ loss, candidates: [1] })), { loss: 5, candidates: IN_TURN }].map(
        ({ loss, candidates }) => ({
          group: 'constraint' as const,
          service: text,
          traffic: THREE,
          grown,
          ratios: { [newDomain]: 0.8, [text]: 1 + loss / 100 },
          newDomain,
          candidates,
          runs,
        }),
      ),
    )
  })
}

/** Refreshes of one domain that are worse by exactly what is allowed, on windows that follow each other. */
function inARowCases(runs: number): GateCase[] {
  const limit = PRESETS.production.gate.max_refresh_regression
  return IN_A_ROW.flatMap(({ text, numbers, grown }) =>
    numbers.map((inARow) => ({
      group: 'in a row' as const,
      service: text,
      traffic: { [text]: 1 },
      grown,
      ratios: { [text]: limit },
      inARow,
      candidates: [1],
      runs,
    })),
  )
}
