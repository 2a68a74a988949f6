// Validates an AsyncAPI document. Warnings fail too, but for that of a newer edition: tools follow
// slowly, and 3.0.0 says all that we need.
import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'));
const faults = diagnostics.filter(({ code }) => code !== 'asyncapi-latest-version');
for (const { code, message, path } of faults) console.error(`${path.join('.')}: ${message} (${code})`);
if (!document || faults.length > 0) process.exit(1);
console.log(`asyncapi.json: OK, ${document.allChannels().all().length} channels`);
