import type { Deps } from '../contracts/bindings.ts'
import { recordAudit } from './record-audit.ts'

/** Time in which an isolate records an event of one kind about one node once. */
const QUIET_MS = 10 * 60_000
/** Events of one kind that an isolate remembers, and so records within that time: strangers can name any number of nodes. */
const MAX_EVENTS = 100

/** An event of a node's name. */
export type NodeEvent = 'started' | 'replaced' | 'signature_rejected'

/** Records events about nodes, each at most once in ten minutes. */
export class NodeEvents {
  /** By kind, so that rejected signatures of made-up nodes keep no event of a real one out of the log. */
  readonly #recordedMs: Readonly<Record<NodeEvent, Map<string, number>>> = {
    started: new Map(),
    replaced: new Map(),
    signature_rejected: new Map(),
  }

  /** Records an event. A failure is logged, because calls of nodes must not fail for it. */
  async record(
    deps: Pick<Deps, 'db' | 'nowMs'>,
    nodeId: string,
    event: NodeEvent,
    after: { process?: string | undefined; url?: string; error?: string },
  ): Promise<void> {
    const nowMs = deps.nowMs()
    const key = JSON.stringify([nodeId, after.process])
    const recordedMs = this.#recordedMs[event]
    for (const [old, atMs] of recordedMs) if (atMs <= nowMs - QUIET_MS) recordedMs.delete(old)
    if (recordedMs.has(key) || recordedMs.size >= MAX_EVENTS) return
    recordedMs.set(key, nowMs)
    const entry = { actor: `node:${nodeId}`, action: `node.${event}`, target: nodeId, after }
    await recordAudit(deps, entry).catch((error: unknown) => {
      recordedMs.delete(key)
      console.error(`The event '${event}' of node '${nodeId}' is missing in the audit log:`, error)
    })
  }
}
