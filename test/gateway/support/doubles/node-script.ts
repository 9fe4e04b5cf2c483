/** The reaction of a node double to one call. The last step repeats. */
export type NodeStep =
  | { kind: 'answer'; status?: number; headers?: Record<string, string>; body: string }
  | {
      kind: 'stream'
      status?: number
      headers?: Record<string, string>
      chunks: string[]
      /** How often the chunks are sent. Default: once. */
      times?: number
      pauseMs?: number
      /** Sends the first chunk only after the test has called `release`. */
      held?: boolean
      ending: 'end' | 'destroy' | 'hang'
    }
  /** Breaks the connection before the first byte of a response. */
  | { kind: 'drop' }
  /** Never responds. */
  | { kind: 'hang' }

/** A call that a node double received. Times are those of its own clock. */
export interface NodeCall {
  method: string
  path: string
  headers: Record<string, string>
  body: string
  startedAtMs: number
  /** When the caller disconnected before the response was finished. */
  leftAtMs: number | null
}

declare module 'vitest' {
  interface ProvidedContext {
    /** Where the control server of the node doubles listens. */
    nodeUrl: string
  }
}
