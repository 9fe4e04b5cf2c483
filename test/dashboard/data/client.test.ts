import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { CSRF_HEADER } from '@copal/shared/wire/admin-session.ts'
import { ApiError, createClient, endpoint } from '../../../gateway/dashboard/src/data/client.ts'

let origin = ''
const received: { method?: string; path?: string; csrf?: string | string[]; body: string }[] = []
const server = createServer((request, response) => {
  let body = ''
  request.on('data', (chunk: Buffer) => (body += chunk.toString()))
  request.on('end', () => {
    const { method = '', url = '', headers } = request
    received.push({ method, path: url, csrf: headers[CSRF_HEADER] ?? '', body })
    if (url.startsWith('/ok')) response.end('{"value":1}')
    else if (url.startsWith('/empty')) response.end()
    else if (url.startsWith('/page')) response.writeHead(502).end('<html>')
    else {
      response.writeHead(url.startsWith('/ended') || url.startsWith('/v1/') ? 401 : 409)
      response.end('{"error":{"message":"It runs already.","code":"conflict"}}')
    }
  })
})
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => server.close())

function clientOf(csrf: string | undefined) {
  const ends: string[] = []
  const client = createClient({
    fetch: (path, init) => fetch(origin + path, init),
    csrf: () => csrf,
    onSignedOut: () => ends.push('ended'),
  })
  return { client, ends }
}

test('a query leaves out what is not given', () => {
  expect(endpoint('/a', { model: undefined, from: 'x y', width: 60 }).path).toBe('/a?from=x+y&width=60')
  expect(endpoint('/a', { model: undefined }).path).toBe('/a')
})

test('what changes something carries the token of the session, and reading does not', async () => {
  const { client } = clientOf('token-1')
  expect(await client.send('PUT', '/ok', { a: 1 })).toEqual({ value: 1 })
  expect(received.at(-1)).toEqual({ method: 'PUT', path: '/ok', csrf: 'token-1', body: '{"a":1}' })
  expect(await client.get(endpoint('/ok'))).toEqual({ value: 1 })
  expect(received.at(-1)).toMatchObject({ method: 'GET', csrf: '' })
  expect(await client.send('DELETE', '/empty')).toEqual({})
})

test("an error has the gateway's message and code, whatever the gateway sent", async () => {
  const { client, ends } = clientOf('t')
  await expect(client.get(endpoint('/other'))).rejects.toMatchObject({
    message: 'It runs already.',
    status: 409,
    code: 'conflict',
  })
  await expect(client.get(endpoint('/page'))).rejects.toMatchObject({ status: 502, code: 'unknown' })
  expect(ends).toEqual([])
})

test('a gateway that is gone is an error of status 0, which is tried again', async () => {
  const client = createClient({
    fetch: () => Promise.reject(new TypeError('fetch failed')),
    csrf: () => undefined,
    onSignedOut: () => {},
  })
  const error = await client.get(endpoint('/ok')).catch((cause: unknown) => cause)
  expect(error).toBeInstanceOf(ApiError)
  expect(error).toMatchObject({ status: 0 })
})

test('a session that has ended is told, but not a call of the playground without a key', async () => {
  const { client, ends } = clientOf('t')
  await expect(client.get(endpoint('/ended'))).rejects.toMatchObject({ status: 401 })
  expect(ends).toEqual(['ended'])
  await expect(client.open('POST', '/v1/chat/completions', {})).rejects.toMatchObject({ status: 401 })
  expect(ends).toEqual(['ended'])
})
