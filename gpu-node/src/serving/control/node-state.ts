import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { heartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { z } from 'zod'
import { reasonOf, type Log } from '../../platform/log.ts'
import { readIfThere, writeAtomically } from '../../platform/content-store.ts'

const nodeState = z.object({
  /** The model that `desired` refers to. */
  model: z.string().nullable(),
  desired: heartbeatResponse.shape.desired,
})

/** The state that a node keeps over restarts, so that it serves its last mask also while the gateway is unreachable. */
type NodeState = z.output<typeof nodeState>

/** The state file `<home>/node-state.json`. */
export interface NodeStateFile {
  current(): NodeState
  /** Replaces the file atomically. A failed write is logged, and the state in memory stays valid. */
  save(state: NodeState): Promise<void>
}

/**
 * Reads the state of a node, or creates a new one when the file is missing or damaged.
 *
 * @throws AppError `internal_error` when the file exists but cannot be read; it is left unchanged
 */
export async function openNodeState(deps: { home: string; log: Log }): Promise<NodeStateFile> {
  const path = join(deps.home, 'node-state.json')
  let state = await readState(path, deps.log)
  let writing = Promise.resolve()
  const save = (next: NodeState): Promise<void> => {
    state = next
    writing = writing
      .then(() => write(path, next))
      .catch((error: unknown) => {
        deps.log.error('the node state cannot be written', { path, reason: reasonOf(error) })
      })
    return writing
  }
  if (!state) {
    const fresh = { model: null, desired: { active: null, previous: null } }
    state = fresh
    await save(fresh)
  }
  const opened = state
  return { current: () => state ?? opened, save }
}

/** Returns whether two desired states name the same masks. */
export function isSameDesired(a: NodeState['desired'], b: NodeState['desired']): boolean {
  const textOf = ({ active, previous, trials, own }: NodeState['desired']) =>
    JSON.stringify([active, previous, trials, own])
  return textOf(a) === textOf(b)
}

async function readState(path: string, log: Log): Promise<NodeState | undefined> {
  const text = await readIfThere(path)
  if (text === undefined) return undefined
  try {
    return nodeState.parse(JSON.parse(text))
  } catch (error) {
    log.warn('the node state is damaged and is replaced by an empty one; the old file is kept', {
      path,
      reason: reasonOf(error),
    })
    await writeFile(`${path}.damaged`, text)
    return undefined
  }
}

function write(path: string, state: NodeState): Promise<void> {
  return writeAtomically(path, async function* () {
    yield new TextEncoder().encode(`${JSON.stringify(state, null, 2)}\n`)
  })
}
