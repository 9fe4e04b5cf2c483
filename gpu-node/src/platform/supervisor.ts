import type { ModelProgress } from './progress.ts'

/** Messages from a node to the process that started it with an IPC channel. */
export type NodeMessage =
  /** The model is being fetched or converted; at most ten messages a second. */
  | { type: 'progress'; progress: ModelProgress }
  /** The node serves at `url` and registers with the gateway next. */
  | { type: 'ready'; url: string; nodeId: string; model: string; activeVersion: number }
  /**
   * The node cannot start and exits with code 1; `message` is for the user. A node that crashes later sends nothing; its
   * exit code tells, and a restart may help.
   */
  | { type: 'failed'; message: string }

/** The IPC channel to the parent process, if there is one. */
export interface Supervisor {
  /** Whether there is a parent. The node ends when its parent ends. */
  readonly present: boolean
  /** Settles when the message is handed over. A parent that is gone is not an error. */
  tell(message: NodeMessage): Promise<void>
  /** Calls back once when the parent is gone. */
  onGone(callback: () => void): void
}

/** Creates the channel to the parent of `process` (or of a test's substitute). */
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
