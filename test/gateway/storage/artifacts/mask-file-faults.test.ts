import { env } from 'cloudflare:workers'
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { storeMaskFile, type MaskFileDeps } from '../../../../gateway/src/storage/artifacts/mask-files.ts'
import { joinMaskFile, storeMaskPart } from '../../../../gateway/src/storage/artifacts/mask-parts.ts'
import { maskFile, testDeps } from '../../support/doubles/simulated-node.ts'

/** Returns dependencies with one method of R2 that fails with an error in R2's format. */
function failing(method: 'put' | 'get'): MaskFileDeps {
  const fail = () =>
    Promise.reject(new Error(`${method}: We encountered an internal error. Please try again. (10001)`))
  const artifacts = new Proxy(env.ARTIFACTS, {
    get(bucket, name: keyof R2Bucket) {
      return name === method ? fail : bucket[name].bind(bucket)
    },
  })
  return testDeps({ artifacts })
}

const requestOf = (bytes: Uint8Array<ArrayBuffer>) => ({
  headers: new Headers({ 'content-length': String(bytes.byteLength) }),
  body: new Response(bytes).body,
})
const outage = { code: 'service_unavailable', retryable: true, retryAfterS: 5 }

beforeEach(() => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => error.mockRestore())
})

test('the error of a mask or part that R2 cannot store now asks to send it again, and does not call it damaged', async () => {
  const bytes = maskFile('R2 is away')
  const hash = await sha256(bytes)
  await expect(storeMaskFile(failing('put'), hash, requestOf(bytes))).rejects.toMatchObject(outage)
  await expect(storeMaskPart(failing('put').artifacts, hash, hash, requestOf(bytes))).rejects.toMatchObject(
    outage,
  )
  expect(await storeMaskFile(testDeps(), hash, requestOf(bytes))).toBe(true)
})

test.each(['put', 'get'] as const)(
  'parts are there for another try when %s of R2 fails while they are joined',
  async (method) => {
    const bytes = maskFile(`R2 cannot ${method}`)
    const hash = await sha256(bytes)
    await storeMaskPart(env.ARTIFACTS, hash, hash, requestOf(bytes))
    await expect(joinMaskFile(failing(method), hash, [hash])).rejects.toMatchObject(outage)
    expect(await joinMaskFile(testDeps(), hash, [hash])).toBe(true)
  },
)
