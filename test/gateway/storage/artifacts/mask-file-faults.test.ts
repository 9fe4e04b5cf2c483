import { env } from 'cloudflare:workers'
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { maskKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import {
  storeCheckedMask,
  storeMaskFile,
  type MaskFileDeps,
} from '../../../../gateway/src/storage/artifacts/mask-files.ts'
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
const isStored = async (hash: string) => (await env.ARTIFACTS.head(maskKey(hash))) !== null
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
  await storeMaskFile(testDeps(), hash, requestOf(bytes))
  expect(await isStored(hash)).toBe(true)
})

test('a mask that R2 cannot read to check it stays, because another call may have stored it too', async () => {
  const bytes = maskFile('R2 cannot read')
  const hash = await sha256(bytes)
  await storeMaskFile(testDeps(), hash, requestOf(bytes))
  for (const store of [
    () => storeMaskFile(failing('get'), hash, requestOf(bytes)),
    () => storeCheckedMask(failing('get').artifacts, hash, () => env.ARTIFACTS.put(maskKey(hash), bytes)),
  ]) {
    await expect(store()).rejects.toMatchObject(outage)
    expect(await isStored(hash)).toBe(true)
  }
})

test.each(['whole', 'in parts'])(
  'a file that R2 could not read to check it is checked when it is sent again %s',
  async (how) => {
    const bytes = new Uint8Array(new TextEncoder().encode(`no mask, sent ${how}`))
    const hash = await sha256(bytes)
    await expect(storeMaskFile(failing('get'), hash, requestOf(bytes))).rejects.toMatchObject(outage)
    await storeMaskPart(env.ARTIFACTS, hash, hash, requestOf(bytes))
    const again =
      how === 'whole'
        ? storeMaskFile(testDeps(), hash, requestOf(bytes))
        : joinMaskFile(testDeps(), hash, [hash])
    await expect(again).rejects.toMatchObject({ code: 'mask_invalid' })
    expect(await isStored(hash)).toBe(false)
  },
)

test.each(['put', 'get'] as const)(
  'parts are there for another try when %s of R2 fails while they are joined',
  async (method) => {
    const bytes = maskFile(`R2 cannot ${method}`)
    const hash = await sha256(bytes)
    await storeMaskPart(env.ARTIFACTS, hash, hash, requestOf(bytes))
    await expect(joinMaskFile(failing(method), hash, [hash])).rejects.toMatchObject(outage)
    await joinMaskFile(testDeps(), hash, [hash])
    expect(await isStored(hash)).toBe(true)
  },
)
