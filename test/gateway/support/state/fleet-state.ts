import type { AcquireRequest } from '../../../../gateway/src/contracts/acquire.ts'

/** Two nodes that are told to a `FleetState`, and to nobody else. */
export const a = { id: 'a', url: 'http://127.0.0.1:1' }
export const b = { id: 'b', url: 'http://127.0.0.1:2' }

/** A request of the model `m` for a node. */
export const ask = (requestId: string, changes: Partial<AcquireRequest> = {}): AcquireRequest => ({
  model: 'm',
  requestId,
  domain: 'default',
  promptTokens: 7,
  exclude: [],
  ...changes,
})

/** Of a heartbeat: the node holds and serves one version. */
export const ready = (version: number) => ({
  activeVersion: version,
  weightSets: [{ version, state: 'ready' as const, requests: 0 }],
})
