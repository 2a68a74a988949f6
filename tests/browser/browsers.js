// Debian's browsers, each with an empty profile.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { chromium as playwright } from 'playwright-core';
import puppeteer from 'puppeteer-core';

const profile = (name) => mkdtempSync(join(tmpdir(), `${name}-`));

async function chromium() {
  const folder = profile('chromium');
  const browser = await playwright.launchPersistentContext(folder, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
      // Without it Chromium delays connects after the refusals that some cases mean to cause.
      '--webtransport-developer-mode'],
  });
  const close = async () => { await browser.close(); rmSync(folder, { recursive: true, force: true }); };
  return { page: () => browser.newPage(), close };
}

async function firefox() {
  const folder = profile('firefox');
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    headless: true,
    userDataDir: folder,
  });
  const close = async () => { await browser.close(); rmSync(folder, { recursive: true, force: true }); };
  return { page: () => browser.newPage(), close };
}

export const browsers = { chromium, firefox };
