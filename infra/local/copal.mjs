#!/usr/bin/env node
/** `npx copal`, `npm run copal`: runs the command, and first installs the packages if necessary. */
import { ensureInstalled, exitWith, ROOT, runTypeScript } from './toolchain/toolchain.mjs'

try {
  await ensureInstalled(ROOT, (line) => process.stderr.write(`${line}\n`))
  runTypeScript(ROOT, 'gpu-node/cli/main.ts', process.argv.slice(2))
} catch (error) {
  exitWith(error)
}
