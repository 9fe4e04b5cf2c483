import { describe, expect, test } from 'vitest'
import type { DriftReport, StatusReport } from '@copal/shared/wire/admin.ts'
import {
  admin,
  adminJson,
  importTexts,
  SimulatedNode,
  startUpdate,
} from '../../support/doubles/simulated-node.ts'
import { createKey, errorOf, receiptOf, signedPost } from '../../support/requests/gateway-requests.ts'

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

describe('status and drift', () => {
  test('report which masks are served, and the cost of pruning', async () => {
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
      watch: null,
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

  test('a mask file is returned byte for byte', async () => {
    const node = new SimulatedNode('file-1', 'file')
    await node.beat()
    await importTexts('file-a')
    await node.finish((await startUpdate('file', ['file-a'])).id)
    const response = await admin('GET', '/masks/m1/file?model=file')
    expect(response.headers.get('content-disposition')).toContain('file-m1.safetensors')
    expect((await response.arrayBuffer()).byteLength).toBeGreaterThan(100)
  })

  test('a mask that does not exist has its usual name in each message', async () => {
    await new SimulatedNode('unnamed-1', 'unnamed').beat()
    for (const [method, path, says] of [
      ['GET', '99/file', 'no mask file m99.'],
      ['GET', 'm99/file', 'no mask file m99.'],
      ['PUT', 'm99/pin', 'no mask m99.'],
      ['DELETE', '99/pin', 'no mask m99.'],
      ['PUT', 'dense/pin', 'no mask dense.'],
      ['GET', '99/linears', 'no mask file m99.'],
      ['GET', 'm0099/linears', "no mask file 'm0099'."],
    ] as const) {
      const response = await admin(method, `/masks/${path}?model=unnamed`)
      expect(response.status).toBe(404)
      expect((await errorOf(response)).message).toContain(`'unnamed' has ${says}`)
    }
  })
})

test('the version equals the version of the package', async () => {
  const { version } = await adminJson<StatusReport>('GET', '/status')
  const manifest = await import('../../../../gateway/package.json')
  expect(version).toBe(manifest.default.version)
})
