/**
 * Builds the dashboard into `gateway/dashboard/dist`: `index.html`, and an icon, style sheet and scripts whose names contain
 * the hashes of their contents. Prints the sizes. `node gateway/dashboard/build.mjs [folder]`
 */
import { build } from 'esbuild'
import { createHash } from 'node:crypto'
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'

const HERE = import.meta.dirname
/** The folder with the built files, to look at. */
const DIST = join(HERE, 'dist')
/** The module with the built files, which the Worker serves under {@link PUBLIC_PATH}. */
const MODULE = join(HERE, 'built-files.mjs')
/** The path under which the files of the dashboard are served. */
const PUBLIC_PATH = '/dashboard/'
/** Maximum bytes of all files together, each compressed by gzip. */
const MAX_COMPRESSED_BYTES = 100 * 1024

const ENTRIES = {
  main: 'src/main.tsx',
  early: 'src/early.ts',
  style: 'src/styles/style.css',
  icon: 'icon.svg',
}

/**
 * Builds the dashboard anew.
 *
 * @param {string} [folder] where the files are written to
 * @returns {Promise<{ file: string, bytes: number, compressedBytes: number }[]>} the files and their sizes
 */
export async function buildDashboard(folder = DIST) {
  const { metafile, outputFiles } = await build({
    entryPoints: Object.entries(ENTRIES).map(([out, path]) => ({ in: join(HERE, path), out })),
    outdir: folder,
    entryNames: '[name]-[hash]',
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    loader: { '.svg': 'copy' },
    legalComments: 'none',
    charset: 'utf8',
    metafile: true,
    write: false,
    absWorkingDir: HERE,
    logLevel: 'warning',
  })
  /** @type {Record<string, string>} */
  const names = {}
  for (const [path, { entryPoint }] of Object.entries(metafile.outputs)) {
    const key = Object.keys(ENTRIES).find((name) => ENTRIES[name] === entryPoint)
    names[key ?? basename(path).split('-')[0]] ??= PUBLIC_PATH + basename(path)
  }
  const template = await readFile(join(HERE, 'index.html'), 'utf8')
  const page = template.replaceAll(/\{\{(\w+)\}\}/g, (_, name) => {
    if (names[name] === undefined) throw new Error(`index.html names ${name}, which was not built.`)
    return names[name]
  })
  const files = [
    ...outputFiles.map(({ path, text }) => ({ name: basename(path), body: text })),
    { name: 'index.html', body: page.replaceAll(/>\s+</g, '><').trim() },
  ].toSorted((a, b) => (a.name < b.name ? -1 : 1))
  await writeFolder(folder, files)
  if (folder === DIST) await writeModule(files)
  return files.map(sizeOf)
}

/** Writes files into a folder, first those that the page loads, then the page, and removes other files. */
async function writeFolder(folder, files) {
  await mkdir(folder, { recursive: true })
  const assets = files.filter(({ name }) => name !== 'index.html')
  await Promise.all(assets.map(({ name, body }) => writeFile(join(folder, name), body)))
  for (const { name, body } of files.filter((file) => !assets.includes(file)))
    await replaceFile(join(folder, name), body)
  const built = new Set(files.map(({ name }) => name))
  for (const file of (await readdir(folder)).filter((name) => !built.has(name) && !name.endsWith('.new')))
    await rm(join(folder, file), { recursive: true, force: true })
}

/**
 * Writes the built files as a module, which the Worker is bundled with: as assets of Wrangler they would put another Worker in
 * front of each request of the API.
 */
async function writeModule(files) {
  const listed = files.map(({ name, body }) => ({
    name,
    etag: createHash('sha256').update(body).digest('hex').slice(0, 16),
    body,
  }))
  await replaceFile(MODULE, `export const files = ${JSON.stringify(listed)}\n`)
}

/** Writes a file in one step: a Wrangler that runs bundles the module as soon as it changes, and another build may run beside. */
async function replaceFile(path, content) {
  const temporary = `${path}.${process.pid}.new`
  await writeFile(temporary, content)
  await rename(temporary, path)
}

function sizeOf({ name, body }) {
  const bytes = Buffer.from(body)
  return { file: name, bytes: bytes.length, compressedBytes: gzipSync(bytes, { level: 9 }).length }
}

/** Renders sizes as lines for people. */
function describeSizes(files) {
  const kilobytes = (bytes) => `${(bytes / 1024).toFixed(1)} KB`
  const total = files.reduce((sum, { compressedBytes }) => sum + compressedBytes, 0)
  return [
    ...files.map(
      ({ file, bytes, compressedBytes }) =>
        `${file}  ${kilobytes(bytes)}, ${kilobytes(compressedBytes)} compressed`,
    ),
    `In all ${kilobytes(total)} compressed, of at most ${kilobytes(MAX_COMPRESSED_BYTES)}.`,
  ].join('\n')
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.stdout.write(`${describeSizes(await buildDashboard(process.argv[2]))}\n`)
}
