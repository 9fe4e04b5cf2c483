import { exports } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import { adminJson } from '../../support/doubles/simulated-node.ts'
import { signIn } from '../../support/requests/dashboard-session.ts'
import { errorOf, ORIGIN, sendHeartbeat } from '../../support/requests/gateway-requests.ts'

test('browsers are sent to the dashboard, and programs are told where the API is', async () => {
  const ask = (accept: string) =>
    exports.default.fetch(`${ORIGIN}/`, { headers: { accept }, redirect: 'manual' })
  const browser = await ask('text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8')
  expect([browser.status, browser.headers.get('location')]).toEqual([302, '/dashboard'])
  for (const accept of ['*/*', 'application/json', '']) {
    const response = await ask(accept)
    expect([response.status, (await errorOf(response)).code]).toEqual([404, 'not_found'])
  }
})

test('the reference shows a request of who is signed in, whose names stay text', async () => {
  await sendHeartbeat({ id: 'docs-1', url: 'http://127.0.0.1:1' }, 'tiny-docs')
  const name = `<script>alert("1")</script>`
  const created = await adminJson<CreatedKey>('POST', '/keys', {
    name,
    scopes: ['read-metrics', 'inference'],
    default_domain: 'legal',
  })
  const browser = await signIn({ key: created.key })
  const html = await (await browser.send('GET', '/docs')).text()
  expect(html).toContain('&quot;model&quot;:&quot;tiny-docs&quot;')
  expect(html).toContain('x-copal-domain: legal')
  expect(html).toContain(created.prefix)
  expect(html).toContain('&lt;script&gt;')
  expect(html).not.toContain('<script')
  expect(html).not.toContain(created.key)
  const open = await (await exports.default.fetch(`${ORIGIN}/docs`)).text()
  expect(open).not.toContain('Signed in as')
  const ended = await exports.default.fetch(`${ORIGIN}/docs`, { headers: { cookie: 'copal_session=x' } })
  expect(ended.status).toBe(200)
})
