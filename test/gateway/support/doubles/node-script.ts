/** What a node double does with one call; the last step repeats. */
export type NodeStep =
  | { kind: 'answer'; status?: number; headers?: Record<string, string>; body: string }
  | {
      kind: 'stream'
      status?: number
      headers?: Record<string, string>
      chunks: string[]
      /** How often they are sent; once when left out. */
      times?: number
      pauseMs?: number
      ending: 'end' | 'destroy' | 'hang'
    }
  /** Breaks the connection before any byte of an answer. */
  | { kind: 'drop' }
  /** Never answers. */
  | { kind: 'hang' }

/** A call that a node double got; times are of its own clock. */
export interface NodeCall {
  method: string
  path: string
  headers: Record<string, string>
  body: string
  startedAtMs: number
  /** When the caller left before the answer was finished. */
  leftAtMs: number | null
}

declare module 'vitest' {
  interface ProvidedContext {
    /** Where the control server of the node doubles listens. */
    nodeUrl: string
  }
}
