/** Tests that lists of the admin API have a bounded length, and that their pages make the whole list. */
import { env } from 'cloudflare:workers'
import { beforeAll, expect, test } from 'vitest'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
import { createKey, errorOf, sendHeartbeat } from '../../support/requests/gateway-requests.ts'

/** More than a page has. */
const ENTRIES = 1_003
const NUMBERS = `with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < ${ENTRIES})`

interface Page {
  data: { name?: string; version?: number; id?: string }[]
  next_after: string | null
}

beforeAll(async () => {
  await sendHeartbeat({ id: 'node-1', url: 'http://127.0.0.1:9' }, 'm')
  await env.DB.batch(
    [
      `insert into masks (model, version, sha256, update_id, method, pattern, scope, sparsity, domains, bytes, created_at)
        ${NUMBERS} select 'm', n, n, 'u' || n, 'wanda', '0.5', 'row', 0.5, '["d"]', 1, n from numbers`,
      `insert into tenants (name, created_at) ${NUMBERS} select 't' || n, 1 from numbers`,
      // Several of one time, some of another tenant, and revoked ones.
      `insert into api_keys (id, name, hash, prefix, default_domain, sampling, created_at, tenant, revoked_at)
        ${NUMBERS} select 'key_' || n, 'k', 'h' || n, 'p', 'd', 'never', n / 3, iif(n % 2, 't1', 't2'), iif(n % 5, null, 1) from numbers`,
      `insert into domains (name, created_at) ${NUMBERS} select 'd' || n, 1 from numbers`,
    ].map((query) => env.DB.prepare(query)),
  )
})

/** Reads a list page by page. */
async function readPages(path: string, limit?: number): Promise<{ sizes: number[]; names: unknown[] }> {
  const sizes: number[] = []
  const names: unknown[] = []
  let after: string | null = ''
  do {
    const query = new URLSearchParams({
      ...(limit === undefined ? {} : { limit: String(limit) }),
      ...(after === '' ? {} : { after }),
    }).toString()
    const page: Page = await adminJson<Page>(
      'GET',
      query === '' ? path : `${path}${path.includes('?') ? '&' : '?'}${query}`,
    )
    sizes.push(page.data.length)
    names.push(...page.data.map(({ id, version, name }) => id ?? version ?? name))
    after = page.next_after
  } while (after !== null)
  return { sizes, names }
}

test.each([
  ['/masks', 'masks', 'version', 'version desc'],
  ['/tenants', 'tenants', 'name', 'name'],
  ['/domains', 'domains', 'name', 'name'],
])('%s lists a thousand entries at most, and all in pages', async (path, table, column, order) => {
  const { results } = await env.DB.prepare(`select ${column} as name from ${table} order by ${order}`).all()
  const { sizes, names } = await readPages(path)
  expect(names).toEqual(results.map(({ name }) => name))
  expect(sizes).toEqual([1_000, results.length - 1_000])
  const small = await readPages(path, 300)
  expect(small.names).toEqual(names)
  expect(small.sizes).toEqual([300, 300, 300, results.length - 900])
})

test.each(['/keys', '/keys?tenant=t2'])(
  '%s lists the keys that are not revoked in pages, newest first',
  async (path) => {
    const ofTenant = path.includes('t2') ? `and tenant = 't2'` : ''
    const { results } = await env.DB.prepare(
      `select id from api_keys where revoked_at is null ${ofTenant} order by created_at desc, id desc`,
    ).all()
    const { sizes, names } = await readPages(path, 100)
    expect(names).toEqual(results.map(({ id }) => id))
    expect(sizes.slice(0, -1).every((size) => size === 100)).toBe(true)
  },
)

test('a list of another length, or that goes on after what was no page, is rejected', async () => {
  for (const [path, param] of [
    ['/masks?limit=0', 'limit'],
    ['/masks?limit=1001', 'limit'],
    ['/masks?after=newest', 'after'],
    ['/keys?after=key_1', 'after'],
    ['/tenants?limit=many', 'limit'],
  ] as const) {
    const response = await admin('GET', path)
    expect([path, response.status, (await errorOf(response)).param]).toEqual([path, 400, param])
  }
})

test('a key of a tenant that does not exist is rejected with the nearest name', async () => {
  const response = await admin('POST', '/keys', { name: 'k', tenant: 'defualt' })
  expect((await errorOf(response)).message).toContain("Did you mean 'default'?")
  await createKey({ tenant: 't7' })
})
