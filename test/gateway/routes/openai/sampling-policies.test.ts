import { expect, onTestFinished, test, vi } from 'vitest'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import { SETTINGS } from '@copal/shared/settings-table.ts'
import { adminJson } from '../../support/doubles/simulated-node.ts'
import { startNode } from '../../support/doubles/node-double.ts'
import { post, sendHeartbeat, until } from '../../support/requests/gateway-requests.ts'
import { storedTexts } from '../../support/state/reservoir-state.ts'

const ask = (key: string, model: string, content: string) =>
  post(
    key,
    '/v1/chat/completions',
    { model, messages: [{ role: 'user', content }] },
    { headers: { 'x-copal-sample': 'true' } },
  )

/** Waits until a domain has exactly some texts, of which the last was asked last. */
async function untilStored(domain: string, texts: readonly string[]): Promise<void> {
  const last = texts.at(-1) ?? ''
  await until(`the text '${last}'`, async () => (await storedTexts(domain)).includes(last) || undefined)
  expect((await storedTexts(domain)).toSorted()).toEqual([...texts].toSorted())
}

async function keyOf(tenant: string, domain: string): Promise<CreatedKey> {
  await adminJson('PUT', `/tenants/${tenant}`, { sampling: 'always' })
  return adminJson('POST', '/keys', { name: 'a', tenant, sampling: 'always', default_domain: domain })
}

test('a request cannot be sampled beyond what its tenant allows, whatever its key and header say', async () => {
  await sendHeartbeat(await startNode('ceiling-1', [{ kind: 'answer', body: '{}' }]), 'ceiling')
  const [bound, free] = [await keyOf('ceiling-bound', 'ceiling'), await keyOf('ceiling-free', 'ceiling')]
  await adminJson('PUT', '/tenants/ceiling-bound', { sampling: 'never' })
  expect((await ask(bound.key, 'ceiling', 'of the bound tenant')).status).toBe(200)
  expect((await ask(free.key, 'ceiling', 'of the free tenant')).status).toBe(200)
  await untilStored('ceiling', ['of the free tenant'])
})

test.each(['key', 'tenant'])(
  'what an isolate samples of a %s whose policy was tightened, before it knows, is not stored',
  async (what) => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
    onTestFinished(() => warn.mockRestore())
    const domain = `tightened-${what}`
    const node = await startNode(`${domain}-1`, [{ kind: 'answer', body: '{}' }])
    await sendHeartbeat(node, domain)
    const { id, key } = await keyOf(domain, domain)
    const other = await keyOf(`${domain}-other`, domain)
    await ask(key, domain, 'before')
    await untilStored(domain, ['before'])
    if (what === 'key') await adminJson('PATCH', `/keys/${id}`, { sampling: 'never' })
    else await adminJson('PUT', `/tenants/${domain}`, { sampling: 'never' })
    // The isolate trusts the key that it has looked up, and samples.
    await ask(key, domain, 'within the trust time')
    await ask(other.key, domain, 'of another')
    await untilStored(domain, ['before', 'of another'])
    await until('the dropped sample', async () => warn.mock.calls.length > 0 || undefined)
    expect(warn.mock.calls.flat()).toContain(
      'Dropped 1 samples of keys whose sampling policy has changed since.',
    )
    const now = Date.now
    Date.now = () => now() + SETTINGS.COPAL_KEY_TRUST_MS.default
    onTestFinished(() => void (Date.now = now))
    await sendHeartbeat(node, domain)
    const dropped = warn.mock.calls.length
    await ask(key, domain, 'afterwards')
    await ask(other.key, domain, 'of another, afterwards')
    await untilStored(domain, ['before', 'of another', 'of another, afterwards'])
    expect(warn.mock.calls).toHaveLength(dropped)
  },
)
