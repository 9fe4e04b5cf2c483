import { sha256 } from '@copal/shared/wire/signature.ts'
import type { EndedSpan } from '../../contracts/telemetry.ts'
import type { UpdatePatch, UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { UpdateEvent } from './update-states.ts'
import { hasEnded } from './update-states.ts'

/** The parts of an update that name the span of its current step. */
type Step = Pick<UpdateRow, 'id' | 'state' | 'candidate'>

/** The changes of one move. */
interface Move extends UpdatePatch {
  event: UpdateEvent
  state: UpdateRow['state']
  stateSince: number
  finishedAt: number | null
}

/**
 * Returns the span of the step that a move ends, and that of the whole update if it ends with it. All ids follow from the
 * update, since its steps run in many isolates, and jobs name their step before it has ended.
 */
export async function updateSpans(update: UpdateRow, move: Move): Promise<EndedSpan[]> {
  const { id, model, state, candidate, createdAt, trigger } = update
  // What ends an update that had ended, such as a roll-back a day later, is no step of it.
  if (hasEnded(state)) return []
  const traceId = await traceIdOf(id)
  const rootId = await rootSpanId(id)
  const common = { 'copal.update': id, 'copal.model': model }
  const step: EndedSpan = {
    name: state,
    traceId,
    spanId: await stepSpanId({ id, state, candidate }),
    parentSpanId: rootId,
    startMs: update.stateSince ?? createdAt,
    endMs: move.stateSince,
    attributes: { ...common, 'copal.update.event': move.event },
    errorType: move.event === 'failed' ? (move.errorCode ?? undefined) : undefined,
  }
  if (move.finishedAt === null) return [step]
  const maskVersion = move.maskVersion ?? update.maskVersion
  const root: EndedSpan = {
    name: 'update',
    traceId,
    spanId: rootId,
    startMs: createdAt,
    endMs: move.finishedAt,
    attributes: {
      ...common,
      'copal.update.state': move.state,
      'copal.update.trigger': trigger,
      ...(maskVersion === null ? {} : { 'copal.mask': maskVersion }),
    },
    errorType: step.errorType,
  }
  return [step, root]
}

/** Returns the `traceparent` of an update's current step, for the jobs of nodes. */
export async function stepTraceparent(step: Step): Promise<string> {
  return `00-${await traceIdOf(step.id)}-${await stepSpanId(step)}-01`
}

async function traceIdOf(id: string): Promise<string> {
  return (await digest(id)).slice(0, 32)
}

async function rootSpanId(id: string): Promise<string> {
  return (await digest(id)).slice(32, 48)
}

async function stepSpanId({ id, state, candidate }: Step): Promise<string> {
  return (await digest(`${id} ${state} ${candidate}`)).slice(0, 16)
}

function digest(text: string): Promise<string> {
  return sha256(new Uint8Array(new TextEncoder().encode(text)))
}
