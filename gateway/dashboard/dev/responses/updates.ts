import type { UpdateEntry, UpdateJob } from '@copal/shared/wire/admin.ts'
import { decision, decisionsOf } from './decisions.ts'
import { ageOf, LEARNED, LINEAGE } from './lineage.ts'
import { ago, MODEL } from './service.ts'

/** The id of the update that runs. */
export const RUNNING_ID = 'upd_8f2c61'

/** The id of the update that made a mask. */
export const updateId = (version: number) => `upd_${String(version).padStart(4, '0')}`

function updateOf(version: number, parent: number | null, state: UpdateEntry['state']): UpdateEntry {
  const hasEnded = state !== 'canary'
  return {
    id: updateId(version),
    model: MODEL,
    domains: LEARNED[version % LEARNED.length] ?? [],
    method: 'wanda+swaps',
    pattern: '50%',
    patterns: {},
    scope: 'row',
    state,
    progress: hasEnded ? 1 : 0.95,
    message: '',
    mask_version: version,
    parent_version: parent,
    candidate: version === 14 ? 2 : 1,
    error:
      state === 'failed'
        ? { code: 'gate_failed', message: `Mask m${version} is rejected, and the active one stays in use.` }
        : null,
    trigger: version % 3 === 0 ? 'drift' : version % 3 === 1 ? 'volume' : 'manual',
    trigger_reason: version % 3 === 0 ? 'The gap of support rose to 0.064 nats a token, above 0.05.' : '',
    created_at: ago(ageOf(version) + 25),
    finished_at: hasEnded ? ago(ageOf(version) - 40) : null,
    ended_in: state === 'failed' ? 'evaluating' : null,
    job: null,
  }
}

/** The update that runs. */
export function runningUpdate(): UpdateEntry {
  return {
    ...updateOf(16, 14, 'calibrating'),
    id: RUNNING_ID,
    domains: ['support'],
    progress: 0.43,
    message: 'calibrating support, block 7 of 16',
    mask_version: null,
    finished_at: null,
    trigger: 'drift',
    trigger_reason: 'The gap of support rose to 0.064 nats a token, above 0.05.',
    created_at: ago(9),
    job: {
      state: 'running',
      progress: 0.43,
      message: 'calibrating support, block 7 of 16',
      node: 'node-2',
      attempt: 1,
    },
  }
}

/** Updates, newest first. */
export function updates(): { data: UpdateEntry[] } {
  return { data: [runningUpdate(), ...LINEAGE.map((row) => updateOf(...row)).toReversed()] }
}

const job = (kind: UpdateJob['kind'], createdMinutes: number, tookMinutes: number): UpdateJob => ({
  kind,
  state: 'done',
  progress: 1,
  node: 'node-1',
  created_at: ago(createdMinutes),
  started_at: ago(createdMinutes),
  reported_at: ago(createdMinutes - tookMinutes),
})

/** One update with its jobs and decisions. */
export function update(id: string): UpdateEntry | undefined {
  const found = updates().data.find((each) => each.id === id)
  if (!found) return undefined
  if (found.id === RUNNING_ID)
    return {
      ...found,
      jobs: [
        {
          ...job('calibrate', 8.6, 0),
          state: 'running',
          progress: 0.43,
          node: 'node-2',
          reported_at: ago(0.1),
        },
      ],
      decisions: [
        decision(
          'trigger',
          'done',
          9,
          'Started by drift: the gap of support rose to 0.064 nats a token, above 0.05.',
        ),
      ],
    }
  const age = ageOf(found.mask_version ?? 0)
  return {
    ...found,
    jobs: [
      job('calibrate', age + 24, 12),
      job('evaluate', age + 12, 3),
      ...(found.candidate > 1 ? [job('calibrate', age + 9, 2), job('evaluate', age + 7, 3)] : []),
    ],
    decisions: decisionsOf(found, age),
  }
}
