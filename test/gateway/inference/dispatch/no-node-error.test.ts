import { AppError } from '@copal/shared/errors.ts'
import { expect, test } from 'vitest'
import type { NoNode } from '../../../../gateway/src/contracts/acquire.ts'
import { createDomainOwners } from '../../../../gateway/src/keys/domain-owners.ts'
import { lastAttemptError, noNodeError } from '../../../../gateway/src/inference/dispatch/no-node-error.ts'
import { sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'

const deps = testDeps()
const noNode = (changes: Partial<NoNode> = {}): NoNode => ({
  ok: false,
  reason: 'full',
  retryAfterMs: 2_400,
  servedModels: [],
  ...changes,
})

const domainOwners = createDomainOwners()
const caller = (allowedModels: string[] | null = null) => ({
  key: { allowedModels, tenant: 'acme' },
  domainOwners,
})

/** Returns the error of a request for a model, or a version of it, that got no node. */
const errorFor = (
  id: string,
  none: Partial<NoNode>,
  { version, allowed = null }: { version?: number; allowed?: string[] | null } = {},
) => noNodeError(deps, { ...caller(allowed), name: { id, version }, none: noNode(none) })

const startNode = (id: string, changes: Parameters<typeof sendHeartbeat>[2] = {}) =>
  sendHeartbeat({ id: `${id}-1`, url: 'http://127.0.0.1:9' }, id, changes)

test('a full fleet is overloaded, with the estimated wait in whole seconds', async () => {
  expect(await errorFor('full', { reason: 'full' })).toMatchObject({
    code: 'overloaded',
    message: "All nodes that serve 'full' are busy, and the wait would be too long. Try again in 3 s.",
    retryAfterS: 3,
  })
})

test('a client is never asked to retry after less than one second', async () => {
  expect(await errorFor('full', { retryAfterMs: 0 })).toMatchObject({ retryAfterS: 1 })
})

test.each(['absent', 'retries', 'left'] as const)(
  'a model whose nodes are known (%s) is unavailable, and the database is not asked',
  async (reason) => {
    const unreachable = { ...deps, db: undefined as never }
    const request = { ...caller(), name: { id: 'away', version: undefined }, none: noNode({ reason }) }
    expect(await noNodeError(unreachable, request)).toMatchObject({
      code: 'no_node_available',
      message: "No node that serves 'away' is available now. Try again in 3 s.",
      retryAfterS: 3,
    })
  },
)

test('a registered model that the fleet does not know is unavailable', async () => {
  await startNode('registered')
  expect(await errorFor('registered', { reason: 'unknown' })).toMatchObject({
    code: 'no_node_available',
    message: "No node that serves 'registered' is available now. Try again in 3 s.",
  })
})

test('an unknown model is not found, and the message names the served models that the key may use', async () => {
  const none = { reason: 'unknown' as const, servedModels: ['a', 'b'] }
  expect(await errorFor('gpt-9', none)).toMatchObject({
    code: 'model_not_found',
    param: 'model',
    message: "The model 'gpt-9' does not exist. Available models: 'a', 'b'.",
  })
  const restricted = await errorFor('gpt-9', none, { allowed: ['b'] })
  expect(restricted.message).toBe("The model 'gpt-9' does not exist. Available models: 'b'.")
  const excluded = await errorFor('gpt-9', none, { allowed: ['other'] })
  expect(excluded.message).toBe("The model 'gpt-9' does not exist. No model is available.")
})

test('if no node is alive, the message names registered models', async () => {
  await startNode('stored')
  const error = await errorFor('gpt-9', { reason: 'unknown' }, { allowed: ['stored'] })
  expect(error.message).toBe("The model 'gpt-9' does not exist. Available models: 'stored'.")
})

test('the dense version that no node holds now is unavailable for a while', async () => {
  await startNode('dense', { draining: true })
  expect(await errorFor('dense', { reason: 'absent' }, { version: 0 })).toMatchObject({
    code: 'no_node_available',
    message: "No node holds 'dense@dense' now. No version is available now. Try again in 3 s.",
    retryAfterS: 3,
  })
})

test('a version that no node is meant to hold is not found, and the message names the held versions', async () => {
  await startNode('masked')
  expect(await errorFor('masked', { reason: 'absent' }, { version: 9 })).toMatchObject({
    code: 'model_not_found',
    param: 'model',
    message: "No node holds 'masked@mask-9'. Available now: 'masked@dense'.",
  })
})

test('a node that was full itself gives the client its own message and retry time', () => {
  const error = new AppError('overloaded', 'The queue is full.', { retryAfterS: 7 })
  const failed = { requestId: 'r', nodeId: 'node-1', how: 'full', error } as const
  expect(lastAttemptError(failed, noNode())).toMatchObject({
    code: 'overloaded',
    message: 'The queue is full.',
    retryAfterS: 7,
  })
})

test('the retry time is the estimate of the fleet if the node named none', () => {
  const error = new AppError('overloaded', 'The queue is full.')
  const failed = { requestId: 'r', nodeId: 'node-1', how: 'full', error } as const
  expect(lastAttemptError(failed, noNode())).toMatchObject({ message: 'The queue is full.', retryAfterS: 3 })
})

test.each([
  ['absent', 'and no other node can take the request now.'],
  ['retries', 'and too many requests are failing for this one to be retried.'],
] as const)('a broken connection without another node (%s) is unavailable', (reason, why) => {
  const error = new AppError('node_failed', 'The connection broke.')
  const failed = { requestId: 'r', nodeId: 'node-1', how: 'broke', error } as const
  expect(lastAttemptError(failed, noNode({ reason }))).toMatchObject({
    code: 'no_node_available',
    message: `Node 'node-1' disconnected before it responded, ${why} Try again in 3 s.`,
    cause: error,
    retryAfterS: 3,
  })
})
