import { exports } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { pageRoutes } from '../../../../gateway/src/routes/dashboard/page-routes.ts'
import { errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'

const fetchPath = (path: string, init: RequestInit = {}) => exports.default.fetch(ORIGIN + path, init)

test('every path of the dashboard is its page, which loads nothing from elsewhere and stands in no frame', async () => {
  for (const path of ['/dashboard', '/dashboard/domains/legal', '/dashboard/masks/12']) {
    const response = await fetchPath(path)
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8'])
    const policy = response.headers.get('content-security-policy')?.split('; ')
    expect(policy).toEqual([
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "img-src 'self' data:",
      "connect-src 'self'",
      "frame-ancestors 'none'",
      "base-uri 'none'",
      "form-action 'self'",
    ])
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-cache',
    })
    const html = await response.text()
    // The policy would refuse these.
    expect(html).not.toMatch(/<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=/)
    expect(
      [...html.matchAll(/(?:src|href)="([^"]+)"/g)].every(([, url]) => url?.startsWith('/dashboard/')),
    ).toBe(true)
  }
})

test('the files of the page are cached for good, because their names change with them', async () => {
  const html = await (await fetchPath('/dashboard')).text()
  const files = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, url]) => url ?? '')
  expect(files.length).toBeGreaterThan(1)
  for (const file of files) {
    const response = await fetchPath(file)
    expect([response.status, response.headers.get('cache-control')]).toEqual([
      200,
      'public, max-age=31536000, immutable',
    ])
    expect(response.headers.get('content-type')).toMatch(/^(text\/javascript|text\/css|image\/svg\+xml)/)
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    const etag = response.headers.get('etag') ?? ''
    await response.body?.cancel()
    expect((await fetchPath(file, { headers: { 'if-none-match': etag } })).status).toBe(304)
  }
  const old = await fetchPath('/dashboard/main-AAAAAAAA.js')
  expect([old.status, (await errorOf(old)).code]).toEqual([404, 'not_found'])
})

test('files are served below /dashboard alone, and only read', async () => {
  expect((await fetchPath('/index.html')).status).toBe(404)
  const response = await fetchPath('/dashboard/domains', { method: 'POST' })
  expect([response.status, response.headers.get('allow')]).toEqual([405, 'GET'])
})

test('a service without built files says how to build them', async () => {
  const response = await pageRoutes([]).request('/masks')
  expect(response.status).toBe(503)
  expect(await response.text()).toContain('The dashboard is not built')
  expect(response.headers.get('content-security-policy')).toContain("default-src 'none'")
})
