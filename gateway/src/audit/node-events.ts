import type { Deps } from '../contracts/bindings.ts'
import { recordAudit } from './record-audit.ts'

/** Time in which an isolate records an event of one kind about one node once. */
const QUIET_MS = 10 * 60_000
/** Events that an isolate remembers, and so records within that time: strangers can name any number of nodes. */
const MAX_EVENTS = 100

/** An event of a node's name. */
export type NodeEvent = 'started' | 'replaced' | 'signature_rejected'

/** Records events about nodes, each at most once in ten minutes. */
export class NodeEvents {
  readonly #recordedMs = new Map<string, number>()

  /** Records an event. A failure is logged, because calls of nodes must not fail for it. */
  async record(
    deps: Pick<Deps, 'db' | 'nowMs'>,
    nodeId: string,
    event: NodeEvent,
    after: { process?: string | undefined; url?: string; error?: string },
  ): Promise<void> {
    const nowMs = deps.nowMs()
    const key = JSON.stringify([nodeId, event, after.process])
    for (const [old, recordedMs] of this.#recordedMs)
      if (recordedMs <= nowMs - QUIET_MS) this.#recordedMs.delete(old)
    if (this.#recordedMs.has(key) || this.#recordedMs.size >= MAX_EVENTS) return
    this.#recordedMs.set(key, nowMs)
    const entry = { actor: `node:${nodeId}`, action: `node.${event}`, target: nodeId, after }
    await recordAudit(deps, entry).catch((error: unknown) => {
      this.#recordedMs.delete(key)
      console.error(`The event '${event}' of node '${nodeId}' is missing in the audit log:`, error)
    })
  }
}
