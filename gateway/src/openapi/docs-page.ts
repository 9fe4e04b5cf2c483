import { ERROR_CASES } from '@copal/shared/errors.ts'
import type { OpenApiDocument, Parameter } from './openapi-document.ts'
import { errorsOf } from './operation-errors.ts'
import { fieldType } from './field-type.ts'
import { ERROR_HEADERS, type HeaderField } from './headers.ts'
import type { Operation } from './operation.ts'
import { OPERATIONS } from './operations.ts'
import type { JsonSchema } from './openapi-schema.ts'

/** The look of the dashboard: its colours, type and hairlines (`gateway/dashboard/src/styles/tokens.css`). */
const STYLE = `
:root{color-scheme:light dark;--paper:light-dark(#fbfbfa,#15171a);--ink:light-dark(#1a1d21,#e8e6e3);--muted:light-dark(#5f6770,#9aa3ad);--rule:light-dark(#e4e4e0,#2a2e33);--accent:light-dark(#0b6bcb,#6db3f2);--tint:light-dark(#f3f3f0,#1d2024)}
*{box-sizing:border-box}
body{font:14px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums;color:var(--ink);background:var(--paper);margin:0 auto;max-width:60rem;padding:0 16px 64px;overflow-wrap:anywhere}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.top{display:flex;gap:16px;align-items:baseline;padding:12px 0;border-bottom:1px solid var(--rule)}.top strong{margin-right:auto}
h1{font-size:20px;line-height:28px;font-weight:600;margin:24px 0 4px}
h2{font-size:16px;line-height:24px;font-weight:600;margin:40px 0 0;padding-bottom:4px;border-bottom:1px solid var(--rule)}
p{max-width:44rem}
code,pre{font:13px/1.5 ui-monospace,monospace;background:var(--tint)}
code{padding:1px 4px;border-radius:2px}pre{padding:12px;overflow-x:auto;border:1px solid var(--rule)}pre code{padding:0;background:none}
article{margin-top:24px}article h3{margin:0;font-size:14px;font-weight:600}article p{margin:4px 0}
.method{display:inline-block;min-width:56px;color:var(--muted)}
.soft{color:var(--muted)}
details{margin:4px 0}summary{cursor:pointer;color:var(--accent)}
dl{margin:4px 0 0;border-top:1px solid var(--rule)}
dl>div{display:grid;grid-template-columns:14rem 1fr;gap:0 16px;padding:6px 0;border-bottom:1px solid var(--rule)}
dd{margin:0}
table{border-collapse:collapse;margin:12px 0}
th,td{text-align:left;vertical-align:top;padding:6px 16px 6px 0;border-bottom:1px solid var(--rule);overflow-wrap:normal}th{font-weight:600}
.wide{overflow-x:auto}
@media(max-width:40rem){dl>div{grid-template-columns:1fr}thead{display:none}table,tbody{display:block}tr{display:flex;flex-wrap:wrap;gap:0 12px;padding:8px 0;border-bottom:1px solid var(--rule)}td{padding:0;border:0;overflow-wrap:anywhere}td:last-child{flex-basis:100%}}
`

/** The values of the example request at the top of the page. */
export interface DocsExample {
  model?: string | undefined
  /** The domain to name; by default the request names none. */
  domain?: string | undefined
  /** Who is signed in. */
  signedIn?: { name: string; keyPrefix?: string } | undefined
}

const ERRORS = 'Errors'

/** Renders the document as an HTML page without scripts, fonts, images or other external resources. */
export function renderDocsPage(document: OpenApiDocument, origin: string, example: DocsExample = {}): string {
  const { title, version, description } = document.info
  const tags = document.tags.map(({ name }) => name)
  const sections = tags.map((tag) => {
    const operations = OPERATIONS.filter((operation) => operation.tag === tag)
    return `<section id="${anchor(tag)}"><h2>${escape(tag)}</h2>${operations
      .map((operation) => article(document, operation))
      .join('')}</section>`
  })
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>${escape(title)} API</title><style>${STYLE}</style></head>
<body><header><div class="top"><strong>copal</strong><a href="/dashboard">Dashboard</a><a href="openapi.json">OpenAPI document</a></div>
<h1>${escape(title)} API</h1>
<p class="soft">Version ${escape(version)}</p>
<p>${prose(description)}</p>
<nav>${[...tags, ERRORS].map((tag) => `<a href="#${anchor(tag)}">${escape(tag)}</a>`).join(' · ')}</nav></header>
<h2>Start</h2>${caption(example)}<pre><code>${escape(curl(origin, example))}</code></pre>
<main>${sections.join('')}${errors()}</main></body></html>
`
}

function article(document: OpenApiDocument, operation: Operation): string {
  const { method, path, id, summary, body, response, streams, status = 200 } = operation
  const described = document.paths[path]?.[method]
  const parts = [
    `<h3><span class="method">${method.toUpperCase()}</span> <code>${escape(path)}</code></h3>`,
    `<p>${prose(summary)} <span class="soft">${prose(described?.description ?? '')}</span></p>`,
    parameters(described?.parameters ?? []),
    body ? fields('Request', document.components.schemas[body.name]) : '',
    typeof response === 'string' ? '' : fields('Response', document.components.schemas[response.name]),
    streams ? events(document.components.schemas[streams.event.name]) : '',
    headers('Response headers', headersOf(described?.responses[status])),
    failures(operation),
  ]
  return `<article id="${escape(id)}">${parts.join('')}</article>`
}

/** Renders the path, query and header parameters of a request. */
function parameters(all: readonly Parameter[]): string {
  return rows(
    'Parameters',
    all.map(({ name, in: place, required, description, schema }) =>
      row(name, { schema, description, note: place, isRequired: required === true }),
    ),
  )
}

/** Renders the fields of an object; the type of a field describes the fields inside it. */
function fields(title: string, schema: JsonSchema | undefined): string {
  const { properties = {}, required = [] } = schema ?? {}
  return rows(
    title,
    Object.entries(properties).map(([name, property]) =>
      row(name, { schema: property, isRequired: title === 'Request' && required.includes(name) }),
    ),
  )
}

function headers(title: string, all: Readonly<Record<string, HeaderField>>): string {
  return rows(
    title,
    Object.entries(all).map(([name, field]) => row(name, field)),
  )
}

function headersOf(response: object | undefined): Readonly<Record<string, HeaderField>> {
  return response && 'headers' in response ? (response.headers as Record<string, HeaderField>) : {}
}

/** Renders the events of a stream: the fields of the only kind of event, or the kinds by their `type`. */
function events(schema: JsonSchema | undefined): string {
  const title = 'Stream events'
  const kinds = (schema?.['oneOf'] ?? []) as JsonSchema[]
  if (kinds.length === 0) return fields(title, schema)
  const names = ({ properties }: JsonSchema) => (properties?.['type']?.['enum'] ?? []) as string[]
  return rows(
    title,
    kinds.flatMap((kind) => names(kind).map((name) => row(name, { schema: kind }))),
  )
}

/** Renders the error codes of one operation; they are explained once, at the end of the page. */
function failures(operation: Operation): string {
  const lines = [...Map.groupBy(errorsOf(operation), ({ status }) => status)].map(
    ([status, cases]) =>
      `<div><dt>${status}</dt><dd>${cases.map(({ code }) => `<a href="#${code}"><code>${code}</code></a>`).join(' or ')}</dd></div>`,
  )
  return rows('Errors', lines)
}

function rows(title: string, all: readonly string[]): string {
  return all.length > 0 ? `<details><summary>${title}</summary><dl>${all.join('')}</dl></details>` : ''
}

/** @param of.description replaces the description in the schema */
function row(
  name: string,
  of: { schema: JsonSchema; description?: string | undefined; note?: string; isRequired?: boolean },
): string {
  const own = of.schema['description']
  const description = of.description ?? (typeof own === 'string' ? own : '')
  const need = of.isRequired ? ' <strong>required</strong>' : ''
  const note = of.note ? ` <span class="soft">${escape(of.note)}</span>` : ''
  const type = `<span class="soft">${escape(fieldType(of.schema))}${description === '' ? '' : '.'}</span>`
  return `<div><dt><code>${escape(name)}</code>${note}${need}</dt><dd>${type} ${prose(description)}</dd></div>`
}

/** Renders the table of all error codes with their remedies. */
function errors(): string {
  const lines = ERROR_CASES.map(
    ({ code, status, type, remedy }) =>
      `<tr id="${code}"><td><code>${code}</code></td><td>${status}</td><td><code>${escape(type)}</code></td><td>${prose(remedy)}</td></tr>`,
  )
  return `<section id="${anchor(ERRORS)}"><h2>${ERRORS}</h2>
<p>Every error has the form <code>{"error": {"message", "type", "param", "code"}}</code>. A stream that fails sends an error as its last event, without <code>[DONE]</code>.</p>
<div class="wide"><table><thead><tr><th>code</th><th>status</th><th>type</th><th>what to do</th></tr></thead><tbody>${lines.join('')}</tbody></table></div>
${headers('Error headers', ERROR_HEADERS)}</section>`
}

function caption({ model, signedIn }: DocsExample): string {
  const missing =
    model === undefined
      ? '<p>Replace <code>…</code> by a model that <code>GET /v1/models</code> lists.</p>'
      : ''
  if (!signedIn) return missing
  const { name, keyPrefix } = signedIn
  const key =
    keyPrefix === undefined
      ? 'An API key is needed here; <code>npx copal keys create notebook</code> makes one.'
      : `Its key begins with <code>${escape(keyPrefix)}</code>.`
  return `<p>Signed in as <strong>${escape(name)}</strong>. ${key}</p>${missing}`
}

function curl(origin: string, { model = '…', domain }: DocsExample): string {
  const body = JSON.stringify({ model, max_tokens: 64, messages: [{ role: 'user', content: 'Hello.' }] })
  return [
    `curl ${origin}/v1/chat/completions`,
    '-H "authorization: Bearer $COPAL_API_KEY"',
    '-H "content-type: application/json"',
    ...(domain === undefined ? [] : [`-H "x-copal-domain: ${domain}"`]),
    `-d '${body}'`,
  ].join(' \\\n  ')
}

function anchor(text: string): string {
  return text.toLowerCase().replaceAll(/[^a-z]+/g, '-')
}

/** Renders a description; \`code\` is its only markup. */
function prose(text: string): string {
  return escape(text).replaceAll(/`([^`]+)`/g, '<code>$1</code>')
}

function escape(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
  return text.replaceAll(/[&<>"]/g, (character) => names[character] ?? character)
}
