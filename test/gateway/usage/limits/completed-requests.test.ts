import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { createDeps } from '../../../../gateway/src/deps.ts'
import { createCompletedRequests } from '../../../../gateway/src/usage/limits/completed-requests.ts'
import { createKey } from '../../support/requests/gateway-requests.ts'

test('completed requests let others run: they are reported with the next request, otherwise by themselves', async () => {
  const { id } = await createKey()
  const ctx = createExecutionContext()
  const deps = createDeps(env, ctx)
  const completedRequests = createCompletedRequests()
  const ask = (requestId: string) =>
    deps.fleet.acquire({
      model: 'nobody-has-it',
      requestId,
      domain: 'default',
      promptTokens: 1,
      exclude: [],
      completedRequests: completedRequests.take(),
      limits: {
        requestId: `${requestId}-as-another`,
        accounts: [{ kind: 'key', name: id, limits: { concurrentRequests: 1 } }],
        maxTokens: 1,
      },
    })
  // No node has the model, but the request stays reserved because it was tried before.
  expect(await ask('first')).toMatchObject({ ok: false, reason: 'unknown' })
  expect(await ask('second')).toMatchObject({ ok: false, rejection: { limit: 'concurrent' } })
  completedRequests.add(deps, 'first-as-another')
  expect(await ask('third')).toMatchObject({ ok: false, reason: 'unknown' })
  expect(completedRequests.take()).toEqual([])

  completedRequests.add(deps, 'third-as-another')
  await waitOnExecutionContext(ctx)
  expect(await ask('fourth')).toMatchObject({ ok: false, reason: 'unknown' })
})
