import { ERROR_CASES } from '@copal/shared/errors.ts'
import type { OpenApiDocument, Parameter } from './openapi-document.ts'
import { errorsOf } from './operation-errors.ts'
import { fieldType } from './field-type.ts'
import { ERROR_HEADERS, type HeaderField } from './headers.ts'
import type { Operation } from './operation.ts'
import { OPERATIONS } from './operations.ts'
import type { JsonSchema } from './openapi-schema.ts'

const STYLE = `
:root{color-scheme:light dark;--line:light-dark(#d5d8dc,#3a3f45);--soft:light-dark(#5c6370,#a0a7b1);--code:light-dark(#f2f3f5,#22262b);--accent:light-dark(#0b5cad,#7ab7ff)}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1.5rem 1rem 4rem;overflow-wrap:anywhere}
a{color:var(--accent)}
h1{margin:0 0 .25rem}h2{margin:3rem 0 0;border-bottom:1px solid var(--line)}
code,pre{font:.875em/1.5 ui-monospace,monospace;background:var(--code);border-radius:.25rem}
code{padding:.1em .3em}pre{padding:.75rem;overflow-x:auto}pre code{padding:0}
article{margin-top:1.75rem}article h3{margin:0;font-size:1.05rem}article p{margin:.25rem 0}
.method{display:inline-block;min-width:3.5rem;color:var(--accent);font-weight:700}
.soft{color:var(--soft)}
details{margin:.5rem 0}summary{cursor:pointer}
dl{margin:.5rem 0 0;border-top:1px solid var(--line)}
dl>div{display:grid;grid-template-columns:14rem 1fr;gap:0 1rem;padding:.4rem 0;border-bottom:1px solid var(--line)}
dd{margin:0}
table{border-collapse:collapse;margin:.75rem 0}
th,td{text-align:left;vertical-align:top;padding:.4rem 1rem .4rem 0;border-bottom:1px solid var(--line);overflow-wrap:normal}
.wide{overflow-x:auto}
@media(max-width:40rem){dl>div{grid-template-columns:1fr}}
`

const ERRORS = 'Errors'

/** Renders the document as an HTML page without scripts, fonts, images or other external resources. */
export function renderDocsPage(document: OpenApiDocument, origin: string): string {
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
<body><header><h1>${escape(title)} API</h1>
<p class="soft">Version ${escape(version)} · <a href="openapi.json">OpenAPI document</a></p>
<p>${prose(description)}</p>
<nav>${[...tags, ERRORS].map((tag) => `<a href="#${anchor(tag)}">${escape(tag)}</a>`).join(' · ')}</nav></header>
<h2>Start</h2><pre><code>${escape(example(origin))}</code></pre>
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
  const type = `<span class="soft">${escape(fieldType(of.schema))}</span>`
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

function example(origin: string): string {
  return `curl ${origin}/v1/chat/completions \\
  -H "authorization: Bearer $COPAL_API_KEY" \\
  -H "content-type: application/json" \\
  -d '{"model": "…", "messages": [{"role": "user", "content": "Hello."}]}'`
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
