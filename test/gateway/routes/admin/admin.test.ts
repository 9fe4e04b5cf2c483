import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { DomainEntry, DriftReport, StatusReport } from '@copal/shared/wire/admin.ts'
import { openDatabase } from '../../../../gateway/src/db/database.ts'
import { listDatasetsOf } from '../../../../gateway/src/db/queries/datasets.ts'
import { datasetKey, freezeDataset } from '../../../../gateway/src/updates/datasets.ts'
import {
  admin,
  adminJson,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/adaptation.ts'
import { beat, createKey, errorOf, receiptOf, signedPost } from '../../support/gateway.ts'
import { startNode } from '../../support/node-double.ts'

const domainOf = async (name: string) =>
  (await adminJson<{ data: DomainEntry[] }>('GET', '/domains')).data.find((domain) => domain.name === name)

describe('the admin key', () => {
  test.each([
    'GET /status',
    'GET /keys',
    'POST /keys',
    'POST /updates',
    'GET /masks',
    'POST /rollback',
    'GET /drift',
    'DELETE /domains/x',
  ])('is needed for %s', async (call) => {
    const [method = '', path = ''] = call.split(' ')
    const { key } = await createKey()
    const refusalOf = async (token: string) => {
      const response = await admin(method, path, method === 'POST' ? {} : undefined, token)
      return [response.status, (await errorOf(response)).code]
    }
    expect(await refusalOf('wrong')).toEqual([401, 'invalid_api_key'])
    expect(await refusalOf(key)).toEqual([403, 'insufficient_permissions'])
  })
})

describe('domains', () => {
  test('take imported texts, redacted and cut to pieces', async () => {
    const long = 'A sentence of the long text. '.repeat(600)
    const answer = await adminJson('POST', '/domains/imported/texts', {
      texts: [long, 'write to jane@example.org'],
    })
    expect(answer).toEqual({ domain: 'imported', texts: 2, pieces: 6 })
    expect(await domainOf('imported')).toMatchObject({
      seen: 6,
      holdout_frozen: false,
      calibrated_datasets: 0,
    })
  })

  test.each([
    ['/samples?keys=key_1', 'keys'],
    ['/samples?key=', 'key'],
    ['/samples?key=key_1&key=key_2', 'key'],
    ['?key=key_1', 'key'],
  ])('lose nothing to a deletion that is not understood: %s', async (rest, param) => {
    await importTexts('mistyped')
    const before = await domainOf('mistyped')
    const response = await admin('DELETE', `/domains/mistyped${rest}`)
    expect(response.status).toBe(400)
    expect(await errorOf(response)).toMatchObject({ code: 'invalid_request', param })
    expect(before?.samples).toBeGreaterThan(0)
    expect((await domainOf('mistyped'))?.samples).toBe(before?.samples)
  })

  test('take as many texts at once as fit into an isolate beside others, and tell what is too much', async () => {
    await importTexts('filled', 2_000)
    const filled = await domainOf('filled')
    expect(filled?.seen).toBe(2_000)
    expect((filled?.samples ?? 0) + (filled?.holdout_samples ?? 0)).toBeLessThan(2_000)
    const many = await admin('POST', '/domains/filled/texts', {
      texts: Array.from({ length: 2_001 }, String),
    })
    expect([many.status, (await errorOf(many)).param]).toEqual([400, 'texts'])
    const texts = Array.from({ length: 64 }, (_, index) => String(index).padEnd(64 * 1024, 'x'))
    const large = await admin('POST', '/domains/filled/texts', { texts })
    expect(large.status).toBe(413)
    expect((await errorOf(large)).message).toContain('4 MiB')
    const whole = await adminJson('POST', '/domains/filled/texts', { texts: texts.slice(1, 63) })
    expect(whole).toEqual({ domain: 'filled', texts: 62, pieces: 62 * 16 })
  })

  test('lose their samples, of one key or all of them', async () => {
    await importTexts('emptied')
    expect(await adminJson('DELETE', '/domains/emptied/samples?key=nobody')).toEqual({
      domain: 'emptied',
      deleted: 0,
    })
    expect(await adminJson('DELETE', '/domains/emptied/samples')).toEqual({ domain: 'emptied', deleted: 80 })
    expect(await domainOf('emptied')).toMatchObject({ samples: 0, holdout_samples: 0, seen: 80 })
  })

  test('are deleted with everything that was stored, but not under a running update', async () => {
    const node = new SimulatedNode('delete-1', 'delete')
    await node.beat()
    await importTexts('deleted')
    const { id } = await startUpdate('delete', ['deleted'])
    const refused = await admin('DELETE', '/domains/deleted')
    expect([refused.status, (await errorOf(refused)).code]).toEqual([409, 'conflict'])
    await node.finish(id)
    const stored = await listDatasetsOf(openDatabase(env.DB), 'deleted')
    const isStored = async (hash: string) => (await env.ARTIFACTS.head(datasetKey(hash))) !== null
    expect(await Promise.all(stored.map(isStored))).toEqual([true, true])
    expect(await adminJson('DELETE', '/domains/deleted')).toEqual({ domain: 'deleted', deleted: true })
    expect(await Promise.all(stored.map(isStored))).toEqual([false, false])
    expect(await domainOf('deleted')).toBeUndefined()
    // It may come back, as if it were new.
    await importTexts('deleted')
    expect(await domainOf('deleted')).toMatchObject({
      holdout_frozen: false,
      calibrated_datasets: 0,
      seen: 80,
    })
    await node.finish((await startUpdate('delete', ['deleted'])).id)
  })

  test('keep their own datasets when one with the same texts is deleted', async () => {
    const [one, other] = await Promise.all(
      ['one-of-two', 'other-of-two'].map((domain) => freezeDataset(testDeps(), domain, ['the same text'])),
    )
    await admin('DELETE', '/domains/one-of-two')
    expect(await env.ARTIFACTS.head(datasetKey(one?.sha256 ?? ''))).toBeNull()
    expect(await env.ARTIFACTS.head(datasetKey(other?.sha256 ?? ''))).not.toBeNull()
    expect(await listDatasetsOf(openDatabase(env.DB), 'other-of-two')).toEqual([other?.sha256])
  })
})

describe('status and drift', () => {
  test('tell what runs on which weights, and what it costs', async () => {
    const node = new SimulatedNode('status-1', 'status')
    await node.beat()
    await importTexts('status-a')
    await node.finish((await startUpdate('status', ['status-a'])).id)
    const status = await adminJson<StatusReport>('GET', '/status')
    expect(status.models.find(({ id }) => id === 'status')).toEqual({
      id: 'status',
      active_version: 1,
      previous_version: 0,
      sparsity: 0.5,
      context_length: 64,
      converged: true,
      canary: null,
      shadow: null,
    })
    expect(status.nodes.find(({ id }) => id === 'status-1')).toMatchObject({
      model: 'status',
      alive: true,
      active_version: 1,
    })
    await adminJson('POST', '/rollback', { model: 'status' })
    const after = await adminJson<StatusReport>('GET', '/status')
    expect(after.models.find(({ id }) => id === 'status')).toMatchObject({
      active_version: 0,
      converged: false,
    })

    const receipts = [
      receiptOf('status-request-1', {
        model: 'status',
        domain: 'status-a',
        maskVersion: 1,
        drift: { tokens: 10, nllMasked: 30, nllDense: 20 },
      }),
      receiptOf('status-request-2', {
        model: 'status',
        domain: 'status-a',
        maskVersion: 1,
        drift: { tokens: 30, nllMasked: 70, nllDense: 60 },
      }),
      receiptOf('status-request-3', { model: 'status', domain: 'status-a', maskVersion: 1 }),
      receiptOf('status-request-4', {
        model: 'status',
        domain: 'status-a',
        maskVersion: 0,
        drift: { tokens: 4, nllMasked: 8, nllDense: 8 },
      }),
    ]
    await signedPost('/internal/nodes/receipts', { nodeId: 'status-1', receipts })
    await signedPost('/internal/nodes/receipts', { nodeId: 'status-1', receipts })
    const { traffic } = await adminJson<DriftReport>('GET', '/drift?model=status')
    expect(traffic).toEqual([
      { domain: 'status-a', mask_version: 0, requests: 1, tokens: 4, nll_masked: 2, nll_dense: 2, gap: 0 },
      {
        domain: 'status-a',
        mask_version: 1,
        requests: 2,
        tokens: 40,
        nll_masked: 2.5,
        nll_dense: 2,
        gap: 0.5,
      },
    ])
  })

  test('a mask file is given as it was made', async () => {
    const node = new SimulatedNode('file-1', 'file')
    await node.beat()
    await importTexts('file-a')
    await node.finish((await startUpdate('file', ['file-a'])).id)
    const response = await admin('GET', '/masks/m1/file?model=file')
    expect(response.headers.get('content-disposition')).toContain('file-m1.safetensors')
    expect((await response.arrayBuffer()).byteLength).toBeGreaterThan(100)
    expect((await admin('GET', '/masks/2/file?model=file')).status).toBe(404)
  })
})

describe('evaluating a text', () => {
  const lines = ['{"type":"progress","windowsDone":1,"windowsTotal":1}\n', '{"type":"result","tokens":3}\n']

  test('is done by a live node, with the reference of the mask, and its lines come through as they are', async () => {
    const node = new SimulatedNode('eval-0', 'eval')
    await node.beat()
    await importTexts('eval-a')
    await node.finish((await startUpdate('eval', ['eval-a'])).id)
    const double = await startNode('eval-1', [{ kind: 'stream', chunks: lines, ending: 'end' }])
    await node.beat({ draining: true })
    await beat({ id: 'eval-1', url: double.url }, 'eval', {
      activeVersion: 1,
      weightSets: [{ version: 1, state: 'ready', requests: 0 }],
    })
    const response = await admin('POST', '/evaluate', {
      model: 'eval',
      text: 'some text',
      window_tokens: 32,
      max_windows: 2,
    })
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toContain('ndjson')
    expect(await response.text()).toBe(lines.join(''))
    const [call] = await double.calls()
    expect(call).toMatchObject({ method: 'POST', path: '/rpc/evaluate' })
    expect(JSON.parse(call?.body ?? '')).toEqual({
      model: 'eval',
      maskVersion: 1,
      mask: { version: 1, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
      text: 'some text',
      windowTokens: 32,
      maxWindows: 2,
    })
    await (await admin('POST', '/evaluate', { model: 'eval', text: 'some text', mask_version: 0 })).text()
    const dense = JSON.parse((await double.calls())[1]?.body ?? '') as Record<string, unknown>
    expect(dense).toMatchObject({ maskVersion: 0, windowTokens: 1024 })
    expect(dense).not.toHaveProperty('mask')
    const unknown = await admin('POST', '/evaluate', { model: 'eval', text: 'x', mask_version: 9 })
    expect([unknown.status, (await errorOf(unknown)).param]).toEqual([404, 'mask_version'])
  })

  test.each([
    ['between lines', lines[0] ?? ''],
    ['within a line', '{"type":"prog'],
  ])('that breaks off %s ends with an error event of its own line', async (_where, chunk) => {
    const double = await startNode(`eval-2-${chunk.length}`, [
      { kind: 'stream', chunks: [chunk], ending: 'destroy' },
    ])
    await beat({ id: 'eval-2', url: double.url }, 'eval-broken')
    const response = await admin('POST', '/evaluate', { model: 'eval-broken', text: 'x' })
    const got = (await response.text()).trim().split('\n')
    expect(got).toHaveLength(2)
    expect(got[0]).toBe(chunk.trim())
    expect(JSON.parse(got[1] ?? '')).toMatchObject({ type: 'error', error: { code: 'node_failed' } })
  })

  test('that the node refuses is refused with its error', async () => {
    const body = JSON.stringify({
      error: {
        message: 'The text has 3 tokens, a window 1024.',
        type: 'x',
        param: 'text',
        code: 'invalid_request',
      },
    })
    const double = await startNode('eval-4', [{ kind: 'answer', status: 400, body }])
    await beat({ id: 'eval-4', url: double.url }, 'eval-refused')
    const response = await admin('POST', '/evaluate', { model: 'eval-refused', text: 'x' })
    expect(response.status).toBe(400)
    expect(await errorOf(response)).toMatchObject({ code: 'invalid_request', param: 'text' })
  })

  test('without a live node is a 503 that says when to come back', async () => {
    await beat({ id: 'eval-3', url: 'http://127.0.0.1:9' }, 'eval-none', { draining: true })
    const response = await admin('POST', '/evaluate', { model: 'eval-none', text: 'x' })
    expect(response.status).toBe(503)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
  })
})

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
  ])('%s is refused in the one error shape', async (_name, method, path, body, status, code, param) => {
    await beat({ id: 'input-1', url: 'http://127.0.0.1:9' }, 'input')
    await beat({ id: 'input-2', url: 'http://127.0.0.1:9' }, 'input-too')
    const response = await admin(method, path, body)
    const error = await errorOf(response)
    expect({ status: response.status, code: error.code, param: error.param }).toEqual({ status, code, param })
    expect(error.message.length).toBeGreaterThan(10)
  })

  test('several models are named where one must be chosen', async () => {
    const response = await admin('POST', '/rollback', {})
    expect((await errorOf(response)).message).toMatch(/'input', 'input-too'/)
  })
})

test('the version is that of the package', async () => {
  const { version } = await adminJson<StatusReport>('GET', '/status')
  const manifest = await import('../../../../gateway/package.json')
  expect(version).toBe(manifest.default.version)
})
