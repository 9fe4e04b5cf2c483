import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { NodeCallError } from '../../../gateway/src/fleet/node-client.ts'
import { DEFAULT_POLICY } from '../../../gateway/src/fleet/policy.ts'
import { createAlarms } from '../../../gateway/src/runtime/alarms.ts'
import { judge, watchLease } from '../../../gateway/src/inference/lease-watch.ts'
import { testDeps } from '../support/adaptation.ts'
import { beat } from '../support/gateway.ts'

const { idleMs, firstTokenMs } = DEFAULT_POLICY
const view = { silent: false, where: 'taken', idleMs: 0, tokenlessMs: 0 } as const

test.each([
  ['is settled, or unknown to a fleet that was reset', undefined, 'fine'],
  ['moves', view, 'fine'],
  ['is on its way', { ...view, where: 'sent', idleMs }, 'fine'],
  ['is missing on its node', { ...view, where: 'missing' }, 'lost'],
  ['has taken no step for too long', { ...view, idleMs }, 'lost'],
  ['has a silent node', { ...view, silent: true, idleMs }, 'unheard'],
  ['still has no token', { ...view, tokenlessMs: firstTokenMs }, 'late'],
  ['has no token and may yet have one', { ...view, tokenlessMs: firstTokenMs - 1 }, 'fine'],
] as const)('a request that %s', (_, seen, verdict) => {
  expect(judge(seen, DEFAULT_POLICY)).toBe(verdict)
})

/** A request whose node tells of it at once, watched for a while by a gateway in a hurry. */
async function watched(model: string, progress: { completionTokens?: number; tokenlessMs?: number }) {
  const deps = testDeps({ policy: { ...DEFAULT_POLICY, connectMs: 20, firstTokenMs: 100 } })
  const node = { nodeId: `${model}-1`, url: 'http://127.0.0.1:9' }
  const about = { id: node.nodeId, url: node.url }
  await beat(about, model)
  const requestId = `request-${model}`
  const fleet = env.FLEET.get(env.FLEET.idFromName('fleet'))
  await fleet.acquire({ model, requestId, domain: 'd', promptTokens: 1, exclude: [] })
  await beat(about, model, {
    requests: [{ requestId, promptTokens: 1, completionTokens: 0, idleMs: 0, ...progress }],
  })
  const attempt = new AbortController()
  const watch = watchLease(deps, node, requestId, createAlarms(), attempt)
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  watch.stop()
  return attempt.signal
}

test('an embedding, and a request that waits on its node, may take longer than a first token', async () => {
  expect((await watched('no-token', {})).aborted).toBe(false)
})

test('a node that runs a request for too long without a token is late, and not at fault', async () => {
  const { reason } = await watched('tokenless', { tokenlessMs: 100 })
  expect(reason).toBeInstanceOf(NodeCallError)
  expect(reason).toMatchObject({ how: 'refused', error: { code: 'deadline_exceeded' } })
})
