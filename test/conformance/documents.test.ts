/** The examples of the documents do what the documents say. */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, inject, test } from 'vitest'
import { encodeMask } from '@copal/shared/mask/mask-codec.ts'
import { codeBlocksOf, readText } from '../docs/markdown.ts'
import { temporaryDir } from '../support/harness/temporary.ts'
import { pythonPackage } from '../support/processes/python-package.ts'

const run = promisify(execFile)
const service = inject('service')

/** The model that the documents name, and the one of this service. */
const MODEL = { documented: 'smollm2-135m-instruct', served: 'tiny' }

/** An example of a document, with the address, the key and the model of this service. */
function adapted(code: string): string {
  const changes = [
    ['http://127.0.0.1:8787', service.origin],
    ['sk-copal-…', service.apiKey],
    [MODEL.documented, MODEL.served],
  ] as const
  return changes.reduce((text, [from, to]) => {
    expect(text).toContain(from)
    return text.replaceAll(from, to)
  }, code)
}

/** The only block of a document in a language that contains a text. */
function exampleOf(path: string, language: string, contains: string): string {
  const found = codeBlocksOf(readText(path)).filter(
    (block) => block.language === language && block.code.includes(contains),
  )
  expect(found.length).toBe(1)
  return found[0]?.code ?? ''
}

test('the Python example of the page of requests streams text', async () => {
  const python = await pythonPackage('openai', '3.57.0')
  const { stdout, stderr, exitCode } = await python.run([
    '-c',
    adapted(exampleOf('docs/requests.md', 'python', 'OpenAI(')),
  ])
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 })
  expect(stdout).not.toBe('')
})

test('the request of the README gets the headers and the fields of the README', async () => {
  const { stdout } = await run('bash', ['-c', adapted(exampleOf('README.md', 'sh', 'curl -si'))])
  const actual = responseOf(stdout.replaceAll('\r', ''))
  const documented = responseOf(exampleOf('README.md', '', 'x-copal-mask'))
  expect(actual.headers).toMatchObject({ 'x-copal-domain': 'geography', 'x-copal-mask': '0' })
  expect(Object.keys(actual.headers)).toEqual(expect.arrayContaining(Object.keys(documented.headers)))
  expect(shapeOf(actual.body)).toEqual(shapeOf(documented.body))
})

test('the Python example of the page of mask files reads which weights a mask keeps', async () => {
  const dir = temporaryDir()
  const [rows, cols] = [2, 10]
  // Half of each row; the last six bits of a row belong to no column.
  const bits = Uint8Array.of(0b0001_1111, 0, 0b1110_0000, 0b0000_0011)
  const mask = encodeMask({
    meta: {
      method: 'magnitude',
      pattern: '0.5',
      scope: 'row',
      patterns: {},
      domains: [],
      parent: null,
      created: '2026-01-01T00:00:00Z',
      baseSha256: '0'.repeat(64),
    },
    linears: new Map([['model.layers.0.mlp.up_proj.weight', { rows, cols, bits }]]),
  })
  await writeFile(join(dir, 'm3.safetensors'), mask)
  const python = await pythonPackage('safetensors', '0.8.0', ['numpy==2.4.6'])
  const example = exampleOf('docs/architecture/mask-files.md', 'python', 'safe_open')
  const { stdout, stderr } = await python.run(
    ['-c', `${example}        print(keep.astype(int).tolist())\n`],
    {
      cwd: dir,
    },
  )
  expect(stderr).toBe('')
  expect(stdout.trim().split('\n')).toEqual([
    'model.layers.0.mlp.up_proj.weight (2, 10) 50.0% pruned',
    '[[1, 1, 1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]]',
  ])
})

/** The headers and the JSON body of a response as `curl -i` prints it, or as a document shows it. */
function responseOf(text: string): { headers: Record<string, string>; body: unknown } {
  const [head = '', body = ''] = text.split(/\n\n(?=\{)/)
  const headers = head.split('\n').flatMap((line) => {
    const [, name, value = ''] = /^([\w-]+): (.*)$/.exec(line) ?? []
    return name === undefined ? [] : [[name.toLowerCase(), value]]
  })
  return { headers: Object.fromEntries(headers) as Record<string, string>, body: JSON.parse(body) }
}

/** A JSON value with only the names of its fields. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf)
  if (typeof value !== 'object' || value === null) return undefined
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, shapeOf(field)]))
}
