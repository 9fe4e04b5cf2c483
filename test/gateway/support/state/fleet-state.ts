import type { AcquireRequest } from '../../../../gateway/src/contracts/acquire.ts'

/** Two nodes that only a `FleetState` knows. */
export const a = { id: 'a', url: 'http://127.0.0.1:1' }
export const b = { id: 'b', url: 'http://127.0.0.1:2' }

/** Returns a request for a node with the model `m`. */
export const acquireRequest = (requestId: string, changes: Partial<AcquireRequest> = {}): AcquireRequest => ({
  model: 'm',
  requestId,
  domain: 'default',
  promptTokens: 7,
  exclude: [],
  ...changes,
})

/** Returns the part of a heartbeat that says that the node serves one version. */
export const readyWeightSets = (version: number) => ({
  activeVersion: version,
  weightSets: [{ version, state: 'ready' as const, requests: 0 }],
})
