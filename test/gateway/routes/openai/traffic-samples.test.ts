import { env } from 'cloudflare:workers'
import { runInDurableObject } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'
import { Fleet } from '../../../../gateway/src/fleet/object/fleet.ts'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import { sendHeartbeat, createKey, post, until } from '../../support/requests/gateway-requests.ts'
import { storedTexts } from '../../support/state/reservoir-state.ts'
import { startNode } from '../../support/doubles/node-double.ts'

const reservoir = (domain: string) => env.RESERVOIR.get(env.RESERVOIR.idFromName(domain))

test('text is stored redacted in its domain if and only if key and request consent, and the node gets the same decision', async () => {
  const node = await startNode('sampling-1', [{ kind: 'answer', body: '{}' }])
  await sendHeartbeat(node, 'sampling')
  const cases: [SamplingPolicy, string | undefined, boolean][] = [
    ['never', undefined, false],
    ['never', 'true', false],
    ['opt_in', undefined, false],
    ['opt_in', 'true', true],
    ['opt_in', 'false', false],
    ['always', undefined, true],
    ['always', 'false', false],
  ]
  for (const [sampling, header] of cases) {
    const { key } = await createKey({ sampling, defaultDomain: 'consent' })
    const content = `Asked under ${sampling} with the header ${header} by jane@example.org.`
    const headers: Record<string, string> = header === undefined ? {} : { 'x-copal-sample': header }
    const response = await post(
      key,
      '/v1/chat/completions',
      { model: 'sampling', messages: [{ role: 'user', content }] },
      { headers },
    )
    expect(response.status).toBe(200)
  }
  const told = (await node.calls()).map(({ body }) => (JSON.parse(body) as ChatCall).sample)
  expect(told).toEqual(cases.map(([, , sampled]) => sampled))
  const expected = [
    'Asked under always with the header undefined by [email].',
    'Asked under opt_in with the header true by [email].',
  ]
  const stored = await until('both samples', async () => {
    const { seen } = await reservoir('consent').stats()
    if (seen < expected.length) return undefined
    return storedTexts('consent')
  })
  expect(stored).toEqual(expected)
})

test('of a growing chat, of its retries and of several prompts each new text is stored once, in its conversation', async () => {
  const node = await startNode('conversations-1', [{ kind: 'answer', body: '{}' }])
  await sendHeartbeat(node, 'conversations')
  const { key } = await createKey({ sampling: 'always', defaultDomain: 'conversations', tenant: 'talkers' })
  const send = async (path: string, body: object) => {
    const response = await post(key, path, { model: 'conversations', ...body })
    expect(response.status).toBe(200)
  }
  const messages: object[] = []
  for (const content of ['First message.', 'Second message.', 'Third message.']) {
    messages.push({ role: 'user', content })
    await send('/v1/chat/completions', { messages })
    await send('/v1/chat/completions', { messages })
    messages.push({ role: 'assistant', content: 'An answer.' })
  }
  await send('/v1/responses', { input: [{ role: 'user', content: 'A response.' }] })
  await send('/v1/completions', { prompt: ['One prompt.', ' ', 'Another prompt.'] })
  const texts = [
    'A response.',
    'Another prompt.',
    'First message.',
    'One prompt.',
    'Second message.',
    'Third message.',
  ]
  await until(
    'all samples',
    async () => (await storedTexts('conversations')).length >= texts.length || undefined,
  )
  expect(await storedTexts('conversations')).toEqual(texts)
  expect(await reservoir('conversations').stats()).toMatchObject({ seen: texts.length })
  const conversations = await runInDurableObject(reservoir('conversations'), (_instance, { storage }) =>
    storage.sql
      .exec<{ text: string; conversation: string; tenant: string }>(
        'SELECT text, conversation, sources.tenant FROM sources JOIN texts USING (hash)',
      )
      .toArray(),
  )
  const of = (text: string) => conversations.find((row) => row.text === text)?.conversation
  expect(of('Third message.')).toBe(of('First message.'))
  expect(of('Another prompt.')).not.toBe(of('One prompt.'))
  expect(new Set(conversations.map(({ tenant }) => tenant))).toEqual(new Set(['talkers']))
})

test('the fleet is asked for a node with the conversation of a request, sampled or not', async () => {
  const node = await startNode('named-1', [{ kind: 'answer', body: '{}' }])
  await sendHeartbeat(node, 'named')
  const { key } = await createKey({ sampling: 'never' })
  const acquire = vi.spyOn(Fleet.prototype, 'acquire')
  onTestFinished(() => acquire.mockRestore())
  const first = { role: 'user', content: 'First message.' }
  const chats = [[first], [first, { role: 'assistant', content: 'a' }, { role: 'user', content: 'Second.' }]]
  for (const messages of chats) await post(key, '/v1/chat/completions', { model: 'named', messages })
  await post(key, '/v1/completions', { model: 'named', prompt: [1, 2] })
  const asked = acquire.mock.calls.map(([{ conversation }]) => conversation)
  expect(asked).toHaveLength(3)
  expect(asked[1]).toBe(asked[0])
  expect(asked.every((conversation) => (conversation ?? '') !== '')).toBe(true)
  expect(asked[2]).not.toBe(asked[0])
})

test('of a key that finds domains only requests that name none wait for one, and the response names the default', async () => {
  const node = await startNode('finding-1', [{ kind: 'answer', body: '{}' }])
  await sendHeartbeat(node, 'finding')
  const { key } = await createKey({ sampling: 'always', defaultDomain: 'finding', discoverDomains: true })
  const send = async (content: string, headers: Record<string, string> = {}) => {
    const body = { model: 'finding', messages: [{ role: 'user', content }] }
    const response = await post(key, '/v1/chat/completions', body, { headers })
    expect(response.status).toBe(200)
    return response.headers.get('x-copal-domain')
  }
  const long =
    'A text without a domain that is long enough to be told apart from others: of fewer than 48 tokens, estimated by ' +
    'its characters, nobody could say what it is about, so it would go to the default domain of its key at once. '
  expect(await send(`Unnamed. ${long}`)).toBe('finding')
  expect(await send(`Named. ${long}`, { 'x-copal-domain': 'named' })).toBe('named')
  expect(await send('Short.')).toBe('finding')
  const stored = (domain: string) =>
    until(`a text in ${domain}`, async () => {
      const texts = await storedTexts(domain)
      return texts.length > 0 ? texts : undefined
    })
  expect(await stored('(unassigned)')).toEqual([`Unnamed. ${long}`])
  expect(await stored('named')).toEqual([`Named. ${long}`])
  expect(await stored('finding')).toEqual(['Short.'])
})
