import type { JsonSchema, OpenApiDocument } from './document.ts'
import { fieldType } from './field-type.ts'
import type { Operation } from './operation.ts'
import { OPERATIONS } from './operations.ts'

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
@media(max-width:40rem){dl>div{grid-template-columns:1fr}}
`

/** The reference page: a document as HTML without scripts, fonts, images or anything else from elsewhere. */
export function renderPage(document: OpenApiDocument, origin: string): string {
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
<nav>${tags.map((tag) => `<a href="#${anchor(tag)}">${escape(tag)}</a>`).join(' · ')}</nav></header>
<h2>Start</h2><pre><code>${escape(example(origin))}</code></pre>
<main>${sections.join('')}</main></body></html>
`
}

function article(document: OpenApiDocument, operation: Operation): string {
  const { method, path, id, summary, body, answer, streams } = operation
  const { description = '' } = (document.paths[path]?.[method] ?? {}) as { description?: string }
  const parts = [
    `<h3><span class="method">${method.toUpperCase()}</span> <code>${escape(path)}</code></h3>`,
    `<p>${prose(summary)} <span class="soft">${prose(description)}</span></p>`,
    body ? fields('Request', document.components.schemas[body.name]) : '',
    typeof answer === 'string' ? '' : fields('Answer', document.components.schemas[answer.name]),
    streams ? '<p class="soft">With <code>stream: true</code>: server-sent events.</p>' : '',
  ]
  return `<article id="${escape(id)}">${parts.join('')}</article>`
}

/** The fields of an object; those within fields are told by their types. */
function fields(title: string, schema: JsonSchema | undefined): string {
  const { properties = {}, required = [] } = schema ?? {}
  const rows = Object.entries(properties).map(([name, property]) => {
    const note = typeof property['description'] === 'string' ? ` ${prose(property['description'])}` : ''
    const need = required.includes(name) && title === 'Request' ? ' <strong>required</strong>' : ''
    return `<div><dt><code>${escape(name)}</code>${need}</dt><dd><span class="soft">${escape(fieldType(property))}</span>${note}</dd></div>`
  })
  return `<details><summary>${title}</summary><dl>${rows.join('')}</dl></details>`
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

/** Text with \`code\`, which is all the markup that descriptions have. */
function prose(text: string): string {
  return escape(text).replaceAll(/`([^`]+)`/g, '<code>$1</code>')
}

function escape(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
  return text.replaceAll(/[&<>"]/g, (character) => names[character] ?? character)
}
