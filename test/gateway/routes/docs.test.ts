import { exports } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import { ERROR_CASES } from '@copal/shared/errors.ts'
import { createApp } from '../../../gateway/src/app.ts'
import type { OpenApiDocument } from '../../../gateway/src/openapi/document.ts'
import { errorOf, ORIGIN } from '../support/gateway.ts'

const document = async () =>
  (await exports.default.fetch(`${ORIGIN}/openapi.json`)).json<OpenApiDocument & { servers: object[] }>()

describe('the OpenAPI document', () => {
  test('has every route but those of nodes, and no route that there is not', async () => {
    const { paths } = await document()
    const told = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    )
    const routes = createApp()
      .routes.filter(({ method, path }) => method !== 'ALL' && !path.startsWith('/internal'))
      .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`)
      // The same without the prefix, for clients that are given the gateway's address as it stands.
      .filter((route) => !/^[A-Z]+ \/(chat|completions|responses|embeddings|models)(\/|$)/.test(route))
    expect(told.sort()).toEqual([...new Set(routes)].sort())
  })

  test('is of version 3.1, says where it is served, and names each operation once', async () => {
    const { openapi, servers, paths } = await document()
    expect([openapi, servers]).toEqual(['3.1.0', [{ url: ORIGIN }]])
    const ids = Object.values(paths).flatMap((methods) =>
      Object.values(methods).map((operation) => operation.operationId),
    )
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('refers to no schema that it does not have', async () => {
    const text = JSON.stringify(await document())
    const { schemas } = (JSON.parse(text) as OpenApiDocument).components
    const references = [...text.matchAll(/"\$ref":"([^"]+)"/g)].map(([, reference = '']) => reference)
    expect(references.length).toBeGreaterThan(10)
    for (const reference of new Set(references))
      expect(schemas).toHaveProperty(reference.replace('#/components/schemas/', ''))
  })

  test('tells what each answer in JSON is made of, but that of itself', async () => {
    const { paths } = await document()
    const untold = Object.entries(paths).flatMap(([path, methods]) =>
      Object.values(methods).flatMap((operation) => {
        const text = JSON.stringify(operation.responses)
        return text.includes('"application/json":{"schema":{"type":"object"}}') ? [path] : []
      }),
    )
    expect(untold).toEqual(['/openapi.json'])
  })

  test('tells which bodies may be left out, and what headers and paths may hold', async () => {
    const { paths } = await document()
    interface Told {
      requestBody?: { required: boolean }
      parameters: { name: string; schema: { pattern?: string } }[]
    }
    const told = (method: string, path: string) => paths[path]?.[method] as Told | undefined
    const isRequired = (method: string, path: string) => told(method, path)?.requestBody?.required
    expect(isRequired('post', '/admin/keys')).toBe(true)
    expect(isRequired('post', '/admin/keys/{id}/rotate')).toBe(false)
    expect(isRequired('put', '/admin/tenants/{tenant}')).toBe(false)
    const patternOf = (method: string, path: string, name: string) =>
      told(method, path)?.parameters.find((parameter) => parameter.name === name)?.schema.pattern
    expect(patternOf('post', '/v1/responses', 'x-copal-domain')).toContain('a-z0-9')
    expect(patternOf('put', '/admin/masks/{sha256}/parts/{part}', 'part')).toContain('{64}')
    const priority = told('post', '/v1/embeddings')?.parameters.find(
      ({ name }) => name === 'x-copal-priority',
    )
    expect(priority?.schema).toEqual({ enum: ['interactive', 'batch'] })
  })

  test('tells which headers answers and errors have', async () => {
    const { responses } = (await document()).paths['/v1/chat/completions']?.['post'] ?? {}
    const names = (status: string) => Object.keys(responses?.[status]?.headers ?? {})
    expect(names('200')).toEqual(
      expect.arrayContaining(['x-copal-mask', 'x-copal-node', 'x-ratelimit-remaining-tokens']),
    )
    expect(names('default')).toEqual(
      expect.arrayContaining(['retry-after', 'x-should-retry', 'x-ratelimit-reset-requests']),
    )
  })

  test('tells every error code, its status and what to do', async () => {
    const { schemas } = (await document()).components
    const error = schemas.Error?.properties?.['error']
    const code = error?.properties?.['code']
    expect(code?.['enum']).toEqual(ERROR_CASES.map((one) => one.code))
    for (const { code: name, status, remedy } of ERROR_CASES)
      expect(code?.['description']).toContain(`\`${name}\` (${status}): ${remedy}`)
  })

  test('tells of requests what they are checked by', async () => {
    const { schemas } = (await document()).components
    expect(schemas.ChatRequest?.required?.toSorted()).toEqual(['messages', 'model'])
    const { n, temperature, audio } = schemas.ChatRequest?.properties ?? {}
    expect(JSON.stringify(n)).toContain('"maximum":16')
    expect(JSON.stringify(temperature)).toContain('"maximum":2')
    expect(audio).toMatchObject({ type: 'null', description: expect.stringContaining('Refused') as string })
    expect(schemas.Response?.properties).toHaveProperty('output')
  })
})

describe('the reference page', () => {
  test('tells of every operation and every field of a request, and needs nothing from elsewhere', async () => {
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
    expect(html).not.toMatch(/<script|<link|<img|<iframe|@import|url\(/)
    expect([...html.matchAll(/(?:src|href)="([^"#]*)/g)].map(([, link]) => link)).toEqual(
      expect.arrayContaining(['openapi.json']) as string[],
    )
  })

  test('is got, not posted to', async () => {
    for (const path of ['/docs', '/openapi.json']) {
      const response = await exports.default.fetch(ORIGIN + path, { method: 'POST' })
      expect([response.status, (await errorOf(response)).code]).toEqual([405, 'method_not_allowed'])
    }
  })
})
