import type { ModelProgress } from './progress.ts'

/** What a node tells the process that started it with an IPC channel. */
export type NodeMessage =
  /** The model is being fetched or converted; many a second at most ten. */
  | { type: 'progress'; progress: ModelProgress }
  /** Serving at `url`; the gateway hears of it next. */
  | { type: 'ready'; url: string; nodeId: string; model: string; activeVersion: number }
  /**
   * The node cannot start and ends with code 1; `message` is one line or several for the user. A node that
   * crashes later says nothing: its exit code does, and another start may help.
   */
  | { type: 'failed'; message: string }

/** The way to the parent, when it gave one. */
export interface Supervisor {
  /** Whether there is a parent that may listen: its end is the node's end. */
  readonly present: boolean
  /** Settles when the message is handed over; a parent that has gone is no error. */
  tell(message: NodeMessage): Promise<void>
  /** Calls back once, when the parent is gone. */
  onGone(callback: () => void): void
}

/** Composes the way to the parent of `process` (or what tests give for it). */
export function createSupervisor(child: Pick<NodeJS.Process, 'send' | 'connected' | 'once'>): Supervisor {
  const present = child.send !== undefined
  return {
    present,
    tell: (message) =>
      new Promise((resolve) => {
        if (!child.send || !child.connected) return resolve()
        child.send(message, undefined, undefined, () => resolve())
      }),
    onGone(callback) {
      if (present) child.once('disconnect', callback)
    },
  }
}
