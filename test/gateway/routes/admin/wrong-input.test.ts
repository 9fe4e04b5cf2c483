import { describe, expect, test } from 'vitest'
import { createApp } from '../../../../gateway/src/app.ts'
import { admin } from '../../support/doubles/simulated-node.ts'
import { sendHeartbeat, errorOf } from '../../support/requests/gateway-requests.ts'

describe('wrong input', () => {
  test.each<[string, string, string, unknown, number, string, string | null]>([
    ['malformed JSON', 'POST', '/updates', '{"domains":', 400, 'invalid_request', null],
    ['no domains', 'POST', '/updates', { domains: [] }, 400, 'invalid_request', 'domains'],
    ['a bad domain name', 'POST', '/updates', { domains: ['Läw'] }, 400, 'invalid_request', 'domains[0]'],
    [
      'a method that no node offers',
      'POST',
      '/updates',
      { domains: ['a'], model: 'input', selection: { method: 'random' } },
      400,
      'invalid_request',
      'selection.method',
    ],
    [
      'what is not the name of a method',
      'POST',
      '/updates',
      { domains: ['a'], selection: { method: 'Copal swaps' } },
      400,
      'invalid_request',
      'selection.method',
    ],
    [
      'a ratio of one',
      'POST',
      '/updates',
      { domains: ['a'], selection: { pattern: '1.0' } },
      400,
      'invalid_request',
      'selection.pattern',
    ],
    [
      'a pattern that keeps more than there is',
      'POST',
      '/updates',
      { domains: ['a'], selection: { pattern: '4:2' } },
      400,
      'invalid_request',
      'selection.pattern',
    ],
    [
      'a pattern of a single linear that is none',
      'POST',
      '/updates',
      { domains: ['a'], selection: { patterns: { '*.up_proj.weight': '0.5', '*.down_proj.weight': '4:2' } } },
      400,
      'invalid_request',
      'selection.patterns.*.down_proj.weight',
    ],
    [
      'patterns of single linears that are a list',
      'POST',
      '/updates',
      { domains: ['a'], selection: { patterns: ['0.5'] } },
      400,
      'invalid_request',
      'selection.patterns',
    ],
    ['no samples', 'POST', '/updates', { domains: ['a'], samples: 0 }, 400, 'invalid_request', 'samples'],
    [
      'an unknown model',
      'POST',
      '/updates',
      { domains: ['a'], model: 'nope' },
      404,
      'model_not_found',
      'model',
    ],
    [
      'samples longer than the context',
      'POST',
      '/updates',
      { domains: ['a'], model: 'input', length: 4096 },
      400,
      'invalid_request',
      'length',
    ],
    ['no model where several are known', 'GET', '/masks', undefined, 400, 'invalid_request', 'model'],
    [
      'the drift of an unknown mask',
      'GET',
      '/drift?model=input&mask_version=999',
      undefined,
      404,
      'not_found',
      'mask_version',
    ],
    ['an unknown update', 'GET', '/updates/upd_0', undefined, 404, 'not_found', null],
    [
      'a bad domain in the path',
      'POST',
      '/domains/Not%20ok/texts',
      { texts: ['x'] },
      400,
      'invalid_request',
      'domain',
    ],
    ['no texts', 'POST', '/domains/ok/texts', { texts: [] }, 400, 'invalid_request', 'texts'],
    ['an empty text', 'POST', '/domains/ok/texts', { texts: ['x', ''] }, 400, 'invalid_request', 'texts[1]'],
    [
      '17 MiB of texts',
      'POST',
      '/domains/ok/texts',
      'x'.repeat(17 * 1024 * 1024),
      413,
      'body_too_large',
      null,
    ],
    [
      'a bad policy',
      'POST',
      '/keys',
      { name: 'x', sampling: 'sometimes' },
      400,
      'invalid_request',
      'sampling',
    ],
    [
      'no text to evaluate',
      'POST',
      '/evaluate',
      { model: 'input', text: '' },
      400,
      'invalid_request',
      'text',
    ],
    ['the wrong method', 'DELETE', '/updates', undefined, 405, 'method_not_allowed', null],
    ['an unknown path', 'GET', '/nothing', undefined, 404, 'not_found', null],
  ])(
    '%s is rejected in the error shape of the API',
    async (_name, method, path, body, status, code, param) => {
      await sendHeartbeat({ id: 'input-1', url: 'http://127.0.0.1:9' }, 'input')
      await sendHeartbeat({ id: 'input-2', url: 'http://127.0.0.1:9' }, 'input-too')
      const response = await admin(method, path, body)
      const error = await errorOf(response)
      expect({ status: response.status, code: error.code, param: error.param }).toEqual({
        status,
        code,
        param,
      })
      expect(error.message.length).toBeGreaterThan(10)
    },
  )

  test('a request without a model is rejected with the names of the models if there are several', async () => {
    const response = await admin('POST', '/rollback', {})
    expect((await errorOf(response)).message).toMatch(/'input', 'input-too'/)
  })
})

test('no path rejects a method before all of its handlers', () => {
  const routes = createApp().routes.filter(({ path }) => path.startsWith('/admin/') && !path.includes('*'))
  const shadowed = routes.filter(
    ({ method, path }, place) =>
      method !== 'ALL' && routes.findIndex((other) => other.method === 'ALL' && other.path === path) < place,
  )
  expect(routes.length).toBeGreaterThan(100)
  expect(shadowed.map(({ method, path }) => `${method} ${path}`)).toEqual([])
})
