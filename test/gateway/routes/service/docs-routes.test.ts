import { exports } from 'cloudflare:workers'
import { describe, expect, test, vi } from 'vitest'
import { ERROR_CASES } from '@copal/shared/errors.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { renderDocsPage } from '../../../../gateway/src/openapi/docs-page.ts'
import type { OpenApiDocument } from '../../../../gateway/src/openapi/openapi-document.ts'
import { docsRoutes } from '../../../../gateway/src/routes/service/docs-routes.ts'
import { errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'

const document = async () =>
  (await exports.default.fetch(`${ORIGIN}/openapi.json`)).json<OpenApiDocument & { servers: object[] }>()

describe('the OpenAPI document', () => {
  test('lists exactly the routes of the gateway, without those for nodes', async () => {
    const { paths } = await document()
    const documented = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    )
    const routes = createApp()
      .routes.filter(({ method, path }) => method !== 'ALL' && !path.startsWith('/internal'))
      // Pages and files of the dashboard, for browsers.
      .filter(({ path }) => path !== '/' && !/^\/dashboard\/(\*|:file.*)$/.test(path))
      .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`)
      // The same routes without the prefix, for clients whose base URL is the gateway's plain address.
      .filter((route) => !/^[A-Z]+ \/(chat|completions|responses|embeddings|models)(\/|$)/.test(route))
    expect(documented.sort()).toEqual([...new Set(routes)].sort())
  })

  test('has version 3.1, the URL of the server and unique operation ids', async () => {
    const { openapi, servers, paths } = await document()
    expect([openapi, servers]).toEqual(['3.1.0', [{ url: ORIGIN }]])
    const ids = Object.values(paths).flatMap((methods) =>
      Object.values(methods).map((operation) => operation.operationId),
    )
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('resolves all of its references', async () => {
    const text = JSON.stringify(await document())
    const { components } = JSON.parse(text) as OpenApiDocument
    const references = [...text.matchAll(/"\$ref":"([^"]+)"/g)].map(([, reference = '']) => reference)
    expect(references.length).toBeGreaterThan(10)
    for (const reference of new Set(references))
      expect(components).toHaveProperty(reference.split('/').slice(2))
  })

  test('has a schema for every JSON response but its own', async () => {
    const { paths } = await document()
    const withoutSchema = Object.entries(paths).flatMap(([path, methods]) =>
      Object.values(methods).flatMap((operation) => {
        const text = JSON.stringify(operation.responses)
        return text.includes('"application/json":{"schema":{"type":"object"}}') ? [path] : []
      }),
    )
    expect(withoutSchema).toEqual(['/openapi.json'])
  })

  test('describes which bodies are optional, and the schemas of headers and path parameters', async () => {
    const { paths } = await document()
    interface DescribedOperation {
      requestBody?: { required: boolean }
      parameters: { name: string; schema: { pattern?: string } }[]
    }
    const operation = (method: string, path: string) =>
      paths[path]?.[method] as DescribedOperation | undefined
    const isRequired = (method: string, path: string) => operation(method, path)?.requestBody?.required
    expect(isRequired('post', '/admin/keys')).toBe(true)
    expect(isRequired('post', '/admin/keys/{id}/rotate')).toBe(false)
    expect(isRequired('put', '/admin/tenants/{tenant}')).toBe(false)
    const patternOf = (method: string, path: string, name: string) =>
      operation(method, path)?.parameters.find((parameter) => parameter.name === name)?.schema.pattern
    expect(patternOf('post', '/v1/responses', 'x-copal-domain')).toContain('a-z0-9')
    expect(patternOf('put', '/admin/masks/{sha256}/parts/{part}', 'part')).toContain('{64}')
    const priority = operation('post', '/v1/embeddings')?.parameters.find(
      ({ name }) => name === 'x-copal-priority',
    )
    expect(priority?.schema).toEqual({ enum: ['interactive', 'batch'] })
  })

  test('describes the values, bounds and defaults of query parameters', async () => {
    const { paths } = await document()
    const parameter = (path: string, wanted: string) =>
      paths[path]?.['get']?.parameters.find(({ name }) => name === wanted)?.schema
    expect(parameter('/admin/series', 'width')).toMatchObject({ enum: [60, 300, 3_600, 86_400] })
    expect(parameter('/admin/usage', 'days')).toMatchObject({ type: 'integer', minimum: 1, maximum: 62 })
    const described = ['model', 'domain', 'from', 'to', 'width'].map(
      (name) => parameter('/admin/series', name)?.['description'],
    )
    expect(described).toEqual(described.map(() => expect.any(String) as string))
  })

  test('describes every error response by status, with its codes and headers', async () => {
    const { paths, components } = await document()
    const failures = (method: string, path: string) =>
      Object.entries(paths[path]?.[method]?.responses ?? {}).flatMap(([status, answer]) =>
        '$ref' in answer ? [`${status} ${answer.$ref.replace('#/components/responses/', '')}`] : [],
      )
    expect(failures('post', '/v1/chat/completions')).toEqual([
      '400 generation.invalid_request.context_length_exceeded',
      '401 generation.invalid_api_key',
      '403 generation.insufficient_permissions',
      '404 generation.model_not_found',
      '413 generation.body_too_large',
      '422 generation.unsupported_model',
      '429 generation.rate_limit_exceeded.insufficient_quota.overloaded',
      '500 generation.internal_error',
      '502 generation.node_failed.invalid_output',
      '503 generation.no_node_available.service_unavailable',
      '504 generation.deadline_exceeded',
    ])
    expect(failures('delete', '/admin/keys/{id}')).toEqual([
      '401 invalid_api_key',
      '403 insufficient_permissions',
      '404 not_found',
      '429 rate_limit_exceeded',
      '500 internal_error',
      '503 service_unavailable',
    ])
    expect(failures('get', '/docs')).toEqual(['500 internal_error'])
    // A session that names no key.
    expect(failures('get', '/v1/models')[0]).toBe('400 invalid_request')
    for (const { responses } of Object.values(paths).flatMap((methods) => Object.values(methods)))
      expect(Object.keys(responses).filter((status) => !/^[2-5]\d\d$/.test(status))).toEqual([])

    const headers = (name: string) => Object.keys(components.responses[name]?.headers ?? {})
    const limits = ['requests', 'tokens'].flatMap((unit) =>
      ['limit', 'remaining', 'reset'].map((what) => `x-ratelimit-${what}-${unit}`),
    )
    expect(headers('generation.rate_limit_exceeded.insufficient_quota.overloaded')).toEqual([
      'x-request-id',
      'retry-after',
      'x-should-retry',
      ...limits,
    ])
    expect(headers('invalid_api_key')).toEqual(['x-request-id', 'www-authenticate'])
    expect(headers('service_unavailable')).toEqual(['x-request-id', 'retry-after'])
  })

  test('describes the headers of responses', async () => {
    const { responses } = (await document()).paths['/v1/chat/completions']?.['post'] ?? {}
    expect(responses?.['200']).toMatchObject({
      headers: {
        'x-copal-mask': expect.anything() as object,
        'x-copal-node': expect.anything() as object,
        'x-ratelimit-remaining-tokens': expect.anything() as object,
      },
    })
    const file = (await document()).paths['/admin/masks/{version}/file']?.['get']?.responses
    expect(file?.['200']).toMatchObject({ headers: { etag: expect.anything() as object } })
  })

  test('describes every error code with its status and remedy', async () => {
    const { schemas } = (await document()).components
    const error = schemas.Error?.properties?.['error']
    const code = error?.properties?.['code']
    expect(code?.['enum']).toEqual(ERROR_CASES.map((one) => one.code))
    for (const { code: name, status, remedy } of ERROR_CASES)
      expect(code?.['description']).toContain(`\`${name}\` (${status}): ${remedy}`)
  })

  test('describes requests by the schemas that validate them', async () => {
    const { schemas } = (await document()).components
    expect(schemas.ChatRequest?.required?.toSorted()).toEqual(['messages', 'model'])
    const { n, temperature, audio } = schemas.ChatRequest?.properties ?? {}
    expect(JSON.stringify(n)).toContain('"maximum":32')
    expect(JSON.stringify(temperature)).toContain('"maximum":2')
    expect(audio).toMatchObject({
      type: 'null',
      description: expect.stringContaining('Not supported') as string,
    })
    expect(schemas.Response?.properties).toHaveProperty('output')
  })
})

describe('the reference page', () => {
  test('shows every operation, request field and error code, without external resources', async () => {
    const response = await exports.default.fetch(`${ORIGIN}/docs`)
    expect(response.headers.get('content-type')).toMatch(/^text\/html/)
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'")
    const html = await response.text()
    const { paths, components } = await document()
    for (const path of Object.keys(paths)) expect(html).toContain(`<code>${path}</code>`)
    for (const field of Object.keys(components.schemas.ChatRequest?.properties ?? {}))
      expect(html).toContain(`<code>${field}</code>`)
    for (const { parameters } of Object.values(paths).flatMap((methods) => Object.values(methods)))
      for (const { name } of parameters) expect(html).toContain(`<code>${name}</code>`)
    for (const { code, status, type } of ERROR_CASES)
      expect(html).toContain(`<code>${code}</code></td><td>${status}</td><td><code>${type}</code>`)
    expect(html).toContain('<code>x-ratelimit-limit-requests</code>')
    expect(html).toContain('<dt>429</dt><dd><a href="#rate_limit_exceeded">')
    for (const code of ERROR_CASES) expect(html).toContain(`<tr id="${code.code}">`)
    expect(html).toContain('<dt><code>response.output_text.delta</code></dt>')
    expect(html).not.toMatch(/<script|<link|<img|<iframe|@import|url\(/)
    expect([...html.matchAll(/(?:src|href)="([^"#]*)/g)].map(([, link]) => link)).toEqual(
      expect.arrayContaining(['openapi.json']) as string[],
    )
  })

  test('responds only to GET', async () => {
    for (const path of ['/docs', '/openapi.json']) {
      const response = await exports.default.fetch(ORIGIN + path, { method: 'POST' })
      expect([response.status, (await errorOf(response)).code]).toEqual([405, 'method_not_allowed'])
    }
  })
})

test('the public page is written once for an origin, however often it is asked for', async () => {
  const render = vi.fn<typeof renderDocsPage>(renderDocsPage)
  const app = docsRoutes(render)
  const pageOf = async (origin: string) => (await app.request(`${origin}/docs`)).text()
  const [first, second] = [await pageOf('https://a.example'), await pageOf('https://a.example')]
  expect(second).toBe(first)
  expect(render).toHaveBeenCalledOnce()
  expect(await pageOf('https://b.example')).toContain('https://b.example')
  // The page names models only to users who are signed in.
  expect(first).toContain('Replace <code>…</code> by a model that <code>GET /v1/models</code> lists.')
  expect(first).toContain('&quot;max_tokens&quot;:64')
})
