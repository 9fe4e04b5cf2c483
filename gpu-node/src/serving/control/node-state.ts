import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { heartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { z } from 'zod'
import { reasonOf, type Log } from '../../platform/log.ts'
import { readIfThere, writeAtomically } from '../../platform/atomic-file.ts'

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
  const found = await readState(path, deps.log)
  let state: NodeState = found ?? { model: null, desired: { active: null, previous: null } }
  let writing = Promise.resolve()
  const save = (changed: NodeState): Promise<void> => {
    state = changed
    writing = writing
      .then(() => writeAtomically(path, `${JSON.stringify(changed, null, 2)}\n`))
      .catch((error: unknown) => {
        deps.log.error('the node state cannot be written', { path, reason: reasonOf(error) })
      })
    return writing
  }
  if (!found) await save(state)
  return { current: () => state, save }
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
