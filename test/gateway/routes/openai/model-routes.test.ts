import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { SETTINGS } from '@copal/shared/settings-table.ts'
import type { ModelEntry, ModelList } from '@copal/shared/wire/model-list.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { domains } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { moveClock } from '../../support/doubles/stopped-clock.ts'
import { sendHeartbeat, createKey, errorOf, get } from '../../support/requests/gateway-requests.ts'
import { activate, seedMask } from '../../support/state/seed-masks.ts'

test('each model is listed with its active mask and the nodes that serve it', async () => {
  const { key } = await createKey()
  expect(await (await get('/v1/models', key)).json()).toEqual({ object: 'list', data: [] })
  const heartbeats = async () => {
    await sendHeartbeat({ id: 'a', url: 'http://127.0.0.1:9' }, 'dense-model')
    await sendHeartbeat({ id: 'b', url: 'http://127.0.0.1:9' }, 'pruned-model')
    await sendHeartbeat({ id: 'c', url: 'http://127.0.0.1:9' }, 'pruned-model')
    await sendHeartbeat({ id: 'd', url: 'http://127.0.0.1:9' }, 'pruned-model', { draining: true })
  }
  await heartbeats()
  await seedMask('pruned-model', 1, { method: 'copal', domains: ['code', 'legal'] })
  await activate('pruned-model', 1)
  // A node without a heartbeat for long counts as gone.
  await heartbeats()
  const { data } = await (await get('/v1/models', key)).json<ModelList>()
  const bare = data.filter(({ id }) => !id.includes('@'))
  expect(bare.map(({ id, copal }) => [id, copal])).toEqual([
    [
      'dense-model',
      {
        mask_version: 0,
        sparsity: 0,
        method: null,
        pattern: null,
        domains: [],
        context_length: 2048,
        nodes: 1,
      },
    ],
    [
      'pruned-model',
      {
        mask_version: 1,
        sparsity: 0.5,
        method: 'copal',
        pattern: '0.5',
        domains: ['code', 'legal'],
        context_length: 2048,
        nodes: 2,
      },
    ],
  ])
  const entry = await (await get('/v1/models/pruned-model', key)).json<ModelEntry>()
  expect(entry).toEqual(bare[1])
  expect(Math.abs(entry.created - Date.now() / 1000)).toBeLessThan(60)
  const { key: lawyers } = await createKey({ defaultDomain: 'legal', allowedDomains: ['legal'] })
  const theirs = await (await get('/v1/models/pruned-model', lawyers)).json<ModelEntry>()
  expect(theirs.copal.domains).toEqual(['legal'])
  await openDatabase(env.DB).insert(domains).values({ name: 'legal', createdAt: 1, owner: 'acme' })
  moveClock(SETTINGS.COPAL_KEY_TRUST_MS.default)
  await heartbeats()
  const shown = async (tenant: string) => {
    const { key: own } = await createKey({ tenant })
    return (await (await get('/v1/models/pruned-model', own)).json<ModelEntry>()).copal.domains
  }
  expect([await shown('acme'), await shown('beta')]).toEqual([['code', 'legal'], ['code']])
  const missing = await get('/v1/models/gpt-9', key)
  expect(missing.status).toBe(404)
  expect(await errorOf(missing)).toMatchObject({
    code: 'model_not_found',
    message: expect.stringMatching(
      /^The model 'gpt-9' does not exist\. Available models: 'dense-model', .*'pruned-model'/,
    ) as string,
  })
})

test('the OpenAI paths also work without /v1, with the same key', async () => {
  const { key } = await createKey()
  expect(await (await get('/models', key)).json()).toEqual(await (await get('/v1/models', key)).json())
  expect((await get('/models', 'sk-copal-wrong')).status).toBe(401)
})
